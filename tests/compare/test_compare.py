"""The compare notebook's own cells over records made here: what got worse is named, and nothing else."""

import itertools
import json
from contextlib import suppress

import nbformat
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from ivit_helpers.__main__ import main
from ivit_helpers.errors import ChecksFailed, InputError
from ivit_helpers.paths import NOTEBOOKS, REPORTS
from ivit_helpers.record.parameters import AccuracyParameters, CompareParameters
from ivit_helpers.record.record import AccuracyRecord, BenchmarkRecord, read, write
from ivit_helpers.record.rows import AccuracyRow, BenchmarkRow, Check, Latency, ModelFacts
from ivit_helpers.record.run import start
from ivit_helpers.report.page import write_report
from ivit_helpers.runs import read_run
from tests.notebook import executed

EXAMPLE = REPORTS / "examples" / "miniature-on-2-cpu-cores"
MODEL = ModelFacts(
    name="InternViT-made", parameters=1000, bytes=2000, tensors=5, shards=1, dtype="bfloat16", flops_per_image=10**9, image_size=224,
    hidden_size=8, layers=2, head="Linear", classes=3, head_is_trained=True, load_seconds=1.0, kernels="fused",
)  # fmt: skip
PASSED = Check(name="it ran", status="passed", detail="", deciding=True)
SEEDS = itertools.count()


def row(ms=10.0, batch_size=8, implementation="fused", noise=0.01, drift=0.0, **parts):
    """A configuration of three windows whose calls take `ms`, give or take `noise`; `drift` moves whole windows."""
    generator = np.random.default_rng(next(SEEDS))
    windows = ms * (1 + drift * generator.normal(size=(3, 1))) * (1 + noise * generator.normal(size=(3, 20)))
    samples = windows.ravel().tolist()
    mean = float(np.mean(samples))
    latency = Latency(p50=float(np.median(samples)), p90=None, p99=None, mean=mean, n=60)
    measured = {
        "images_per_s": 1e3 * batch_size / mean,
        "steady": True,
        "latency_ms": latency,
        "samples_ms": samples,
        "windows": [20] * 3,
    }
    return BenchmarkRow(
        implementation=implementation,
        dtype="bfloat16",
        batch_size=batch_size,
        **measured | {"relative_error": 0.01} | parts,
    )


def failing(error, **names):
    return BenchmarkRow(implementation="fused", dtype="bfloat16", batch_size=8, error=error, **names)


@pytest.fixture
def benchmark(tmp_path):
    """Write the record of a benchmark; gives its path."""
    numbers = itertools.count()

    def make(*rows, **parts):
        number = next(numbers)
        parts = {"model": MODEL, "checks": [PASSED], "environment": {"device": "Ascend910B4", "torch": "2.9.0"}} | parts
        record = BenchmarkRecord(
            id=str(number), started=f"2026-0{number + 1}-01T00:00:00+00:00", concluded=True, rows=list(rows), **parts
        )
        path = tmp_path / f"run{number}" / "benchmark.json"
        path.parent.mkdir()
        write(record, path)
        return path

    return make


@pytest.fixture
def compared(tmp_path):
    """Step through the notebook with these runs; gives its record and what it showed."""

    def run(*runs):
        with suppress(ChecksFailed):
            run.shown = " ".join(
                executed("compare", runs=[str(path) for path in runs], out=str(tmp_path / "out")).shown
            )
        return read(tmp_path / "out" / "compare.json")

    return run


def worse(record):
    return [row.name for row in record.rows if row.outcome == "worse"]


def test_two_runs_of_the_same_thing_flag_nothing(benchmark, compared):
    for _ in range(3):
        found = compared(*(benchmark(row(10, 1), row(50, 8), row(60, 8, "plain")) for _ in range(2)))
        assert found.status == "passed", found.checks
        assert {one.outcome for one in found.rows} == {"no difference seen"}
        assert [one.kind for one in found.rows].count("speed") == 3


def test_a_run_compared_with_itself_has_ratios_of_exactly_one(benchmark, compared):
    path = benchmark(row(10, 1), row(50, 8))
    found = compared(path, path.parent)
    assert [one.change for one in found.rows if one.kind in {"speed", "error"}] == [1.0] * 3
    assert not found.differences


def test_one_configuration_that_takes_a_fifth_longer_is_flagged_and_nothing_else(benchmark, compared):
    before = benchmark(row(10, 1), row(50, 8), row(60, 8, "plain"))
    found = compared(before, benchmark(row(10, 1), row(50 * 1.25, 8), row(60, 8, "plain")))
    assert found.status == "failed"
    assert worse(found) == ["fused at batch 8 in bfloat16"]
    [slower] = [one for one in found.rows if one.outcome == "worse"]
    assert slower.change == pytest.approx(0.8, abs=0.01)
    assert slower.low < 0.8 < slower.high < 1
    assert "fused at batch 8 in bfloat16: 0.80 times as fast (95 % interval 0." in found.verdict


def test_the_committed_example_with_one_slower_configuration_flags_exactly_that(tmp_path, compared):
    slower = json.loads((EXAMPLE / "benchmark.json").read_text())
    changed = slower["rows"][6]
    changed["samples_ms"] = [1.25 * sample for sample in changed["samples_ms"]]
    changed["images_per_s"] /= 1.25
    (tmp_path / "slower.json").write_text(json.dumps(slower))
    assert compared(EXAMPLE, EXAMPLE).status == "passed"
    found = compared(EXAMPLE, tmp_path / "slower.json")
    assert worse(found) == ["fused at batch 8 in float32"]
    only = {one.name.partition(":")[0] for one in found.unmatched}
    assert only == {"smoke", "accuracy"}, "the one record has the benchmark only"


def test_a_change_of_five_percent_is_ignored_however_small_the_noise(benchmark, compared):
    found = compared(benchmark(row(50, noise=1e-4)), benchmark(row(50 * 1.05, noise=1e-4)))
    [speed] = [one for one in found.rows if one.kind == "speed"]
    assert speed.high < 1
    assert speed.outcome == "no difference seen"
    assert "7% are ignored" in speed.detail


def test_windows_that_differ_as_much_as_the_runs_do_hide_a_change(benchmark, compared):
    found = compared(benchmark(row(50, drift=0.2)), benchmark(row(50 * 1.1, drift=0.2)))
    assert not worse(found)


def test_a_single_window_cannot_be_judged(benchmark, compared):
    rows = [row(ms).model_copy(update={"windows": [60]}) for ms in (50, 100)]
    found = compared(*map(benchmark, rows))
    [speed] = [one for one in found.rows if one.kind == "speed"]
    assert (speed.outcome, speed.low) == ("not judged", None)


def test_a_machine_that_was_busy_hides_every_change_and_the_verdict_says_so(benchmark, compared):
    busy = Check(
        name="the machine was quiet",
        status="skipped",
        detail="other processes took 80% of all cores' time",
        deciding=True,
    )
    found = compared(benchmark(row(50)), benchmark(row(500), checks=[PASSED, busy]))
    assert found.status == "not_judged"
    assert "none of 1 speeds: the machine was busy in the later run: other processes took 80%" in found.verdict
    card = busy.model_copy(update={"deciding": False})  # on an accelerator the host's other work does not count
    assert worse(compared(benchmark(row(50)), benchmark(row(500), checks=[PASSED, card])))


def test_a_configuration_that_fails_now_is_worse_and_one_that_cannot_be_done_here_is_only_listed(benchmark, compared):
    before = benchmark(row(50), row(10, 8, "graph"))
    after = benchmark(
        failing("out of memory"),
        failing(None).model_copy(update={"implementation": "graph", "unavailable": "no graphs here"}),
    )
    found = compared(before, after)
    assert worse(found) == ["fused at batch 8 in bfloat16"]
    assert "out of memory" in found.reason
    assert [(one.name, one.where, one.why) for one in found.unmatched if "graph at" in one.name] == [
        ("benchmark: graph at batch 8 in bfloat16", "first", "no graphs here")
    ]


def test_what_only_one_run_has_is_listed_on_its_side(benchmark, compared):
    found = compared(benchmark(row(50), row(10, 1)), benchmark(row(50), row(90, 16)))
    assert [(one.where, one.name) for one in found.unmatched] == [
        ("first", "benchmark: fused at batch 1 in bfloat16"), ("later", "benchmark: fused at batch 16 in bfloat16")
    ]  # fmt: skip


def test_runs_of_two_networks_are_not_judged(benchmark, compared):
    other = MODEL.model_copy(update={"flops_per_image": 10**12, "name": "another"})
    found = compared(benchmark(row(50)), benchmark(row(5000), model=other))
    assert found.status == "not_judged"
    assert "Not judged: no figure of one run can be compared: no figure is in two runs" in found.verdict
    assert "another network (InternViT-made and another)" in found.unmatched[0].why
    assert found.model_name == "InternViT-made, another"


def test_an_error_beyond_rounding_and_a_notebook_that_fails_now_are_worse(benchmark, compared):
    broken = Check(name="fused agrees with the reference", status="failed", detail="off")
    found = compared(benchmark(row(50)), benchmark(row(50, relative_error=0.031), checks=[PASSED, broken]))
    assert worse(found) == ["fused in bfloat16", "benchmark notebook"] or worse(found) == [
        "benchmark notebook",
        "fused in bfloat16",
    ]
    assert not worse(compared(benchmark(row(50)), benchmark(row(50, relative_error=0.029))))


def test_what_differs_between_the_machines_comes_first(benchmark, compared):
    found = compared(
        benchmark(row(50)), benchmark(row(50), environment={"device": "Ascend910B4", "torch": "2.13.0", "LAUNCH": "1"})
    )
    assert [(one.name, one.values) for one in found.differences] == [
        ("torch", ["2.9.0", "2.13.0"]),
        ("LAUNCH", [None, "1"]),
    ]


def test_a_caveat_of_any_run_is_in_the_verdict(benchmark, compared):
    found = compared(benchmark(row(50)), benchmark(row(50), caveats=["Run on a stub."]))
    assert "Run on a stub." in found.verdict


def test_three_runs_are_a_history_and_the_one_that_is_slower_is_named(benchmark, compared):
    found = compared(benchmark(row(50)), benchmark(row(50)), benchmark(row(75)))
    assert [one.run for one in found.rows if one.outcome == "worse"] == [2]
    assert "in run 3: 0.6" in found.verdict
    compared(benchmark(row(50)), benchmark(row(49)), benchmark(row(50)))
    assert "Speed over the runs" in compared.shown


def answered(folder, right, of=400, table=True, flip=(), started="2026-01-01", **parts):
    """An accuracy run that answers the first `right` images with their class, and those in `flip` the other way round."""
    run = start(AccuracyParameters(out=str(folder)))
    hit = [(number < right) != (number in flip) for number in range(of)]
    answers = pd.DataFrame({
        "id": [f"{number}.png" for number in range(of)], "label": 0, "also": "", "outcome": "scored", "pixels": "x", "set": "made",
        "class1": [0 if one else 1 for one in hit], "score1": 0.9, "margin": 1.0,
    })  # fmt: skip
    share = sum(hit) / of
    half = 2 * (share * (1 - share) / of) ** 0.5
    found = AccuracyRow(
        set="made", images=of, scored=of, unreadable=0, missing=0, unlabelled=0, nonfinite=0, top1_hits=sum(hit), top1=share,
        top1_low=share - half, top1_high=share + half, top5_hits=of, top5=1.0, top5_low=0.99, top5_high=1.0,
    )  # fmt: skip
    run.note(rows=[found], model=MODEL, **parts)
    run.check("accuracy", True, "", deciding=True)
    if table:
        run.table("predictions", answers)
    run.finish("")
    run.close()
    return folder


def answers_of(record):
    [found] = [one for one in record.rows if one.kind == "answers"]
    return found


def test_answers_are_compared_image_by_image_where_both_tables_are_there(tmp_path, compared):
    before = answered(tmp_path / "a", 360)
    found = answers_of(compared(before, answered(tmp_path / "b", 360, flip=range(12))))
    assert (found.outcome, found.p) == ("worse", pytest.approx(2 / 2**12))
    assert found.low < 0 < found.high, "two independent samples would not show it"
    assert "12 of 400 images have another first class; 12 were right and are wrong" in found.detail
    both_ways = answered(tmp_path / "c", 360, flip=[*range(6), *range(360, 366)])
    assert answers_of(compared(before, both_ways)).outcome == "no difference seen"


def test_a_table_that_is_not_the_runs_own_is_not_used(tmp_path, compared):
    before, after = answered(tmp_path / "a", 360), answered(tmp_path / "b", 360, flip=range(12))
    with (after / "accuracy_predictions.csv").open("a") as file:
        file.write("\n")
    found = answers_of(compared(before, after))
    assert (found.outcome, found.p) == ("no difference seen", None)
    assert "images were not compared one by one" in found.detail


def test_without_tables_a_difference_outside_its_interval_is_worse_and_one_within_is_not(tmp_path, compared):
    before = answered(tmp_path / "a", 360, table=False)
    assert answers_of(compared(before, answered(tmp_path / "b", 350, table=False))).outcome == "no difference seen"
    assert answers_of(compared(before, answered(tmp_path / "c", 300, table=False))).outcome == "worse"


def test_images_that_are_not_scored_any_more_are_worse_whatever_the_others_say(tmp_path, compared):
    before, after = answered(tmp_path / "a", 360), answered(tmp_path / "b", 360)
    record = json.loads((after / "accuracy.json").read_text())
    record["rows"][0] |= {"scored": 397, "unreadable": 3}
    (after / "accuracy.json").write_text(json.dumps(record))
    found = answers_of(compared(before, after))
    assert found.outcome == "worse"
    assert found.detail.startswith("3 of 400 images are not scored any more")


def test_a_random_head_claims_nothing(tmp_path, compared):
    runs = [answered(tmp_path / name, right) for name, right in (("a", 360), ("b", 100))]
    for folder in runs:
        record = read(folder / "accuracy.json")
        assert isinstance(record, AccuracyRecord)
        record.model = MODEL.model_copy(update={"head_is_trained": False})
        write(record, folder / "accuracy.json")
    found = compared(*runs)
    assert answers_of(found).outcome == "not judged"
    assert found.status == "not_judged"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a.json"], "two or more runs"),
        (["nowhere", "nowhere"], "There is no run 'nowhere': give a run's folder, its record"),
        (["empty", "empty"], "has no record of smoke"),
        (["text.json", "text.json"], "is not a record of schema"),
        (["~no-such-user/run", "~no-such-user/run"], "Could not determine home directory"),
        (["out/compare.json", "text.json"], "is itself a comparison"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(words, sentence, benchmark, compared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.json").write_text("text")
    if "out/compare.json" in words:
        compared(*[benchmark(row(50))] * 2)
    done = CliRunner().invoke(main, ["compare", *words])
    assert done.exit_code == 2, done.output
    assert sentence in done.output
    assert not (tmp_path / "reports").exists()


def test_a_comparison_never_writes_into_the_folder_of_a_run(benchmark):
    path = benchmark(row(50))
    with pytest.raises(InputError, match="is in this run's own folder: give the run another folder"):
        start(CompareParameters(runs=[str(path), str(path.parent)], out=str(path.parent)))
    assert path.exists()


def test_a_renamed_record_and_a_folder_are_the_same_run(benchmark, tmp_path):
    path = benchmark(row(50))
    renamed = path.rename(tmp_path / "january.json")
    assert read_run(str(renamed)).records["benchmark"].id == "0"


def test_a_page_is_the_run_whose_record_it_carries(benchmark, tmp_path):
    path = benchmark(row(50))
    page = path.with_suffix(".html")
    write_report(read(path), nbformat.read(NOTEBOOKS / "benchmark.ipynb", as_version=4), page)
    assert read_run(str(page)).records["benchmark"] == read(path)


@pytest.mark.slow
def test_the_command_says_how_it_ended_and_leaves_a_page(benchmark, tmp_path):
    before = benchmark(row(50))
    for after, code, words in (
        (benchmark(row(50)), 0, "✓ compare: Passed"),
        (benchmark(row(80)), 1, "✗ compare: Failed: nothing got slower"),
    ):
        done = CliRunner().invoke(main, ["compare", str(before), str(after), "--out", str(tmp_path / f"out{code}")])
        assert (done.exit_code, words in done.output) == (code, True), done.output
        assert "Times as fast as the first run" in (tmp_path / f"out{code}" / "compare.html").read_text()
        assert read(tmp_path / f"out{code}" / "compare.json").provenance.command == f"ivit compare {before} {after}"
