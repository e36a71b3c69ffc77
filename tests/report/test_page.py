"""The page of a run: what comes first, where its links lead, and the record that it holds."""

import base64
import gzip
import re

import nbformat
import pytest

from ivit_helpers.errors import InputError
from ivit_helpers.record.record import AccuracyRecord, BenchmarkRecord, SmokeRecord, write
from ivit_helpers.record.rows import AccuracyRow, BenchmarkRow, Check, ModelFacts, Provenance, Ratio, SmokeRow
from ivit_helpers.report.figure import draw
from ivit_helpers.report.page import record_in, write_report
from ivit_helpers.report.table import Table

STARTED = "2026-01-02T03:04:05+00:00"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
SPEED = {
    "implementation": "fused", "dtype": "bfloat16", "batch_size": 4, "relative_error": 2.5e-3,
    "images_per_s": 64.4, "images_per_s_low": 56.0, "images_per_s_high": 72.5,
    "latency_ms": {"p50": 62, "p90": 70, "p99": None, "mean": 63, "n": 70},
}  # fmt: skip
RATIO = Ratio(baseline="transformers-sdpa", median=1.09, low=1.01, high=1.5, n=9)
MODEL = ModelFacts(
    name="tiny", parameters=1, bytes=2, tensors=3, shards=1, dtype="bfloat16", flops_per_image=10, image_size=224, hidden_size=8, layers=1,
    head="linear", classes=10, head_is_trained=True, load_seconds=1.0, kernels="fused",
)  # fmt: skip


def smoke(**parts):
    checks = [
        Check(name="it ran", status="passed", detail="fine", deciding=True),
        Check(name="extra", status="passed", detail="too"),
    ]
    return SmokeRecord(
        **{"id": "ab12", "started": STARTED, "concluded": True, "headline": "key 42", "checks": checks, **parts}
    )


def cells():
    """Two questions with an answer each, a figure and a table; the cell with the second never ran."""
    figure = draw(lambda axes, theme: axes.plot([1, 2], [3, 4], "o", label="a"), "A figure", "alternative")
    outputs = [
        nbformat.v4.new_output("display_data", {"text/html": shown._repr_html_()})
        for shown in (figure, figure, Table([{"a": "1"}]))
    ]
    return nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("## How fast is it, *really*?"),
            nbformat.v4.new_code_cell("1", execution_count=1, outputs=outputs),
            nbformat.v4.new_markdown_cell("## How fast is it, *really*?"),
            nbformat.v4.new_code_cell("2"),
        ]
    )


def page_of(record, folder):
    folder.mkdir(exist_ok=True)
    path = folder / f"{record.notebook}.html"
    write(record, path.with_suffix(".json"))
    write_report(record, cells(), path)
    return path.read_text()


def text(html):
    body = re.sub(r"<style.*?</style>", "", html.partition("<body")[2], flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_the_reason_comes_first_then_figures_then_checks_then_contents(tmp_path):
    failed = Check(name="numbers", status="failed", detail="off by 3")
    said = text(
        page_of(smoke(rows=[SmokeRow(**SPEED)], checks=[*smoke().checks, failed], caveats=["On a CPU."]), tmp_path)
    )
    order = [
        "Failed: numbers: off by 3",
        "key 42",
        "On a CPU.",
        "throughput",
        "failed numbers off by 3",
        "2 checks passed",
        "How fast is it",
    ]
    places = [said.index(words) for words in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (smoke(rows=[SmokeRow(**SPEED)]), ["64.4 images/s 95 %: 56 to 72.5", "62 ms 90th percentile 70", "0.0025 of the last"]),
        (
            BenchmarkRecord(
                started=STARTED,
                rows=[
                    BenchmarkRow(**SPEED, share_of_bound=0.625, bound_images_per_s=103, ratio=RATIO),
                    BenchmarkRow(**{**SPEED, "images_per_s": 12.0}),
                    BenchmarkRow(**{**SPEED, "implementation": "plain", "images_per_s": 99.0}),
                ],
            ),
            ["64.4 images/s", "share of the limit 62.5 % limit: 103 images/s", "as fast as transformers-sdpa 1.09 times 95 %: 1.01 to 1.5"],
        ),
        (
            AccuracyRecord(
                started=STARTED, model=MODEL,
                rows=[AccuracyRow(set="digits", images=100, scored=90, unreadable=10, missing=0, unlabelled=0, nonfinite=0, top1_hits=81,
                                  top1=0.9, top1_low=0.85, top1_high=0.93, top5_hits=90, top5=1, top5_low=0.96, top5_high=1)],
            ),
            ["top-1 90.00 % 95 %: 85.00 to 93.00", "top-5 100.00 %", "scored 90 images of 100 in the set"],
        ),
    ],
)  # fmt: skip
def test_key_figures_come_with_their_interval_or_what_they_are_of(tmp_path, record, expected):
    said = text(page_of(record, tmp_path))
    for words in expected:
        assert words in said


def test_an_accuracy_without_a_trained_head_is_not_a_key_figure(tmp_path):
    row = AccuracyRow(set="digits", images=9, scored=9, unreadable=0, missing=0, unlabelled=0, nonfinite=0, top1_hits=1, top1=0.1,
                      top1_low=0.0, top1_high=0.3, top5_hits=3, top5=0.3, top5_low=0.1, top5_high=0.6)  # fmt: skip
    record = AccuracyRecord(started=STARTED, rows=[row], model=MODEL.model_copy(update={"head_is_trained": False}))
    said = text(page_of(record, tmp_path))
    assert "top-1 " not in said
    assert "scored 9 images" in said


def test_every_heading_has_an_id_of_its_own_and_a_link_in_the_contents(tmp_path):
    html = page_of(smoke(), tmp_path)
    headings = re.findall(r'<h2 id="([^"]*)">', html)
    assert len(headings) == html.count("<h2") == 4
    contents = re.search(r'<nav aria-label="Contents".*?</nav>|<nav class="contents".*?</nav>', html, re.DOTALL)[0]
    assert re.findall(r'href="#([^"]*)"', contents) == headings
    ids = re.findall(r'\sid="([^"]*)"', html)
    assert len(ids) == len(set(ids))


def test_links_lead_to_files_that_are_there(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "smoke_tries.csv").write_text("a")
    (tmp_path / "secret").write_text("not of this run")
    page_of(smoke(tables={"smoke_tries.csv": "0", "smoke_gone.csv": "0", "../secret": "0"}), tmp_path / "run")
    page_of(BenchmarkRecord(started=STARTED), tmp_path / "run")
    for name in ("smoke", "benchmark"):
        html = (tmp_path / "run" / f"{name}.html").read_text()
        links = {link for link in re.findall(r'href="([^"#]*)"', html) if not link.startswith("data:")}
        other = {"smoke": "benchmark", "benchmark": "smoke"}[name]
        tables = {"smoke_tries.csv"} if name == "smoke" else set()
        assert links == {"index.html", f"{other}.html", f"{name}.json", *tables}
        assert all((tmp_path / "run" / link).is_file() for link in links)


def test_the_page_says_how_to_repeat_the_run(tmp_path):
    origin = Provenance(
        kit="1", commit=None, command="ivit run smoke -p model=<x>", notebook_sha256="ab" * 32, clock="c"
    )
    html = page_of(smoke(provenance=origin), tmp_path)
    assert '<pre class="text command">ivit run smoke -p model=&lt;x&gt;</pre>' in html
    assert re.search(r"<details><summary>abababab…</summary>(ab){32}</details>", html), "a digest is folded"


def test_nothing_runs_and_nothing_is_fetched(tmp_path):
    html = page_of(smoke(), tmp_path)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    assert f'content="{policy}"' in html
    assert not re.search(r"<script|<link|<iframe|<object|\son\w+=|javascript:|@import|src=\"http", html)
    assert html.count("<style>") == 1
    assert len(html) < 100_000


def test_what_a_record_says_is_text_in_its_page(tmp_path):
    record = smoke(
        headline=HOSTILE, caveats=[HOSTILE], parameters={"model": HOSTILE, HOSTILE: HOSTILE}, environment={"device": HOSTILE},
        checks=[Check(name=HOSTILE, status="failed", detail=HOSTILE)], rows=[SmokeRow(**{**SPEED, "implementation": HOSTILE})],
        tables={HOSTILE: HOSTILE}, model=MODEL.model_copy(update={"name": HOSTILE, "dtype": HOSTILE}),
    )  # fmt: skip
    html = page_of(record, tmp_path)
    assert "<script" not in html
    assert "<img" not in html
    assert html.count("&lt;script&gt;") >= 6


@pytest.mark.parametrize("samples", [3, 20_000])
def test_the_page_alone_gives_its_record_back(tmp_path, samples):
    row = SmokeRow(**SPEED, samples_ms=[1 / (number + 3) for number in range(samples)])
    record = smoke(rows=[row], headline=HOSTILE, caveats=["“–” ✓ \U0001f600"])
    page_of(record, tmp_path)
    (tmp_path / "smoke.json").unlink()
    assert record_in(tmp_path / "smoke.html") == record
    assert (tmp_path / "smoke.html").stat().st_size < 1_000_000


def test_a_record_that_a_cell_shows_is_not_the_pages_own(tmp_path):
    forged = (
        f'<a download="smoke.json" href="data:application/json;base64,{base64.b64encode(b"{}").decode()}" id="record">'
    )
    notebook = cells()
    notebook.cells[1].outputs.append(nbformat.v4.new_output("display_data", {"text/html": forged}))
    write_report(smoke(), notebook, tmp_path / "smoke.html")
    assert record_in(tmp_path / "smoke.html") == smoke()


def holding(content, suffix="", kind="json"):
    return f'<a download="smoke.json{suffix}" href="data:application/{kind};base64,{base64.b64encode(content).decode()}" id="record">'


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("<p>no record</p>", "holds no record"),
        (holding(b'{"schema": 9, "notebook": "smoke"}'), "is not a record of schema 2"),
        (holding(b"[" * 100_000), "is not a record"),
        (holding(b"\0" * 100, ".gz", "gzip"), "is damaged"),
        (holding(gzip.compress(b"{}" * 1000)[:-12], ".gz", "gzip"), "is cut off"),
        (holding(gzip.compress(b" " * (64 * 2**20 + 1)), ".gz", "gzip"), "larger than any run writes"),
        ('<a download="smoke.json" href="data:application/json;base64,abc" id="record">', "is damaged"),
    ],
)
def test_a_page_without_a_sound_record_is_refused_in_a_sentence(tmp_path, page, reason):
    (tmp_path / "smoke.html").write_text(page)
    with pytest.raises(InputError, match=reason):
        record_in(tmp_path / "smoke.html")


def test_a_page_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        record_in(tmp_path / "smoke.html")
