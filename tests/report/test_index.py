"""The index lists what is there, whatever else lies beside it, and takes its verdicts from the checks."""

import json
import os
import re

import pytest

from ivit_helpers.record.parameters import SmokeParameters
from ivit_helpers.record.record import RAN_TO_ITS_END
from ivit_helpers.record.run import start
from ivit_helpers.report import index, page

PASSED = {"name": "it ran", "status": "passed", "detail": "", "deciding": True}
JUDGED = {"name": RAN_TO_ITS_END, "status": "passed", "detail": "all ran"}


def left(folder, **parts):
    """What a run leaves: its record, with these contents besides, and its page."""
    folder.mkdir(parents=True)
    record = {
        "schema": 2,
        "notebook": "smoke",
        "started": "2026-01-02T03:04:05+00:00",
        "concluded": True,
        "checks": [PASSED],
        **parts,
    }
    (folder / "smoke.json").write_text(json.dumps(record))
    (folder / "smoke.html").write_text("page")


def rows(root):
    """The text of each row of the index."""
    html = index.write_index(root).read_text()
    found = re.findall(r"<tr>\n(.*?)</tr>", html.partition("<tbody>")[2], re.DOTALL)
    return [" ".join(re.sub("<[^>]*>", " ", row).split()) for row in found]


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ({}, "Passed"),
        ({"batch": True, "checks": [PASSED, JUDGED]}, "Passed"),
        ({"batch": True}, "Did not finish: the command that ran it ended early"),
        ({"concluded": False}, "Did not finish: it has not reached its conclusion"),
        ({"concluded": False, "status": "passed"}, "Did not finish"),
        (
            {"checks": [PASSED | {"status": "failed", "detail": "off by 3"}], "status": "passed"},
            "Failed: it ran: off by 3",
        ),
        (
            {"checks": [PASSED, JUDGED | {"status": "failed", "detail": "killed"}], "status": "passed"},
            "Did not finish: killed",
        ),
        ({"checks": []}, "Failed: no check was made"),
    ],
)
def test_a_verdict_follows_from_the_checks_and_not_from_a_word_in_the_file(tmp_path, parts, verdict):
    left(tmp_path / "run", **parts)
    assert verdict in rows(tmp_path)[0]


def test_strange_neighbours_cost_nothing(tmp_path):
    left(tmp_path / "sound")
    left(tmp_path / os.fsdecode(b"n\xffme"))
    left(tmp_path / 'quo"te <b>')
    for name, content in {
        "words": '"smoke"',
        "deep": "[" * 100_000,
        "half": '{"schema": 2, "note',
        "zeros": "\0" * 1000,
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "smoke.json").write_text(content)
    (tmp_path / "folder" / "smoke.json").mkdir(parents=True)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "smoke.json")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    html = index.write_index(tmp_path).read_text()
    assert 'href="sound/smoke.html"' in html
    assert 'href="n%FFme/smoke.html"' in html
    assert "<b>" not in html
    assert html.count("The record cannot be read.") == 4
    assert len(rows(tmp_path)) == 7


SPEED = {"implementation": "fused", "dtype": "float32", "batch_size": 4, "images_per_s": 1234.5, "relative_error": 4.1e-7,
         "latency_ms": {"p50": 3.25, "p90": None, "p99": None, "mean": 3.4, "n": 12}}  # fmt: skip


def test_the_notebooks_of_a_folder_are_one_row_with_their_figures_and_their_caveats_once(tmp_path):
    left(tmp_path / "run", rows=[SPEED], caveats=["Measured on a CPU."])
    faster = SPEED | {"images_per_s": 2000.0, "relative_error": 5e-3}
    shared = {"schema": 2, "started": "2026-01-02T03:09:05+00:00", "concluded": True, "checks": [PASSED]}
    benchmark = shared | {"notebook": "benchmark", "rows": [faster], "caveats": ["Measured on a CPU."]}
    (tmp_path / "run" / "benchmark.json").write_text(json.dumps(benchmark))
    (tmp_path / "no record of its own").mkdir()
    (tmp_path / "no record of its own" / "smoke.ipynb").write_text("{}")
    (row,) = rows(tmp_path)
    assert row.index("smoke") < row.index("benchmark"), "in the order of the notebooks"
    for expected in ("2,000", "3.25", "4.1·10⁻⁷", "2026-01-02 03:09 UTC"):
        assert expected in row
    assert "1,234.5" not in row, "the benchmark's speed counts more than the smoke run's"
    assert row.count("Measured on a CPU.") == 1


def test_the_newest_run_comes_first(tmp_path):
    for day in ("02", "04", "03"):
        left(tmp_path / f"on-{day}", started=f"2026-01-{day}T03:04:05+00:00")
    assert [re.search(r"2026-01-\d\d", row)[0] for row in rows(tmp_path)] == ["2026-01-04", "2026-01-03", "2026-01-02"]


def test_what_a_record_says_is_text_in_the_index(tmp_path):
    left(tmp_path / "run", headline="<script>alert(1)</script>", caveats=["<img src=x>"], parameters={"model": "<i>"})
    html = index.write_index(tmp_path).read_text()
    assert "&lt;script&gt;" in html
    assert "<script" not in html
    assert "<img" not in html


def test_a_run_that_has_not_ended_is_shown_as_running(tmp_path):
    run = start(SmokeParameters(out=str(tmp_path / "run")))
    assert "It is still running" in rows(tmp_path)[0]
    run.close()
    assert "It is still running" not in rows(tmp_path)[0]
    assert "Did not finish" in rows(tmp_path)[0]


def test_both_pages_allow_nothing_but_their_own_styles_and_pictures(tmp_path):
    html = index.write_index(tmp_path).read_text()
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in html
    assert policy in (page.TEMPLATE / "report.html.j2").read_text()
