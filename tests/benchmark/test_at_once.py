"""All cards are timed at once and the first alone, and what they lose to each other is said with its interval."""

import json
from pathlib import Path

import pytest

from ivit_helpers import distributed
from ivit_helpers.benchmark import at_once, figures, one_card, questions
from ivit_helpers.errors import InputError
from ivit_helpers.record.parameters import BenchmarkParameters
from ivit_helpers.record.rows import BenchmarkRow, Latency
from ivit_helpers.record.run import start
from tests.notebook import executed

LATENCY = Latency(p50=500, p90=None, p99=None, mean=500, n=9)
ROW = BenchmarkRow(implementation="fused", dtype="float32", batch_size=4, images_per_s=8.0, latency_ms=LATENCY)


def found(among=((10, 10, 10), (8, 8, 8)), alone=(16, 16, 16), late=0.0, launching=None, error=0.0):
    """What processes measured: so many calls in each window of two seconds; the second process begins `late`."""
    by_all = []
    for number, calls in enumerate(among):
        windows = [
            (10 * place + late * number, 10 * place + late * number + 2, count) for place, count in enumerate(calls)
        ]
        first = (
            {"alone": [(10 * place + 5, 10 * place + 7, count) for place, count in enumerate(alone)]}
            if number == 0
            else {"alone": []}
        )
        pair = launching if number == 0 else None
        by_all.append(
            {
                "card": f"npu:{number}",
                "at_once": windows,
                "launching": pair,
                "alone_launching": pair,
                "error": error,
                **first,
            }
        )
    return by_all


def test_cards_and_aggregate_are_told_apart_and_compared_with_one_alone():
    kept = at_once.summed_up(found(), ROW)
    assert [one.images_per_s.mean for one in kept.cards] == [20.0, 16.0]  # 4 images a call, windows of 2 s
    assert (kept.images_per_s.mean, kept.alone_images_per_s.mean) == (36.0, 32.0)
    assert kept.scaling_efficiency.mean == pytest.approx(36 / 64)
    assert kept.kept_by_first.mean == pytest.approx(20 / 32)
    assert [one.calls for one in kept.cards] == [30, 24]


def test_the_aggregate_is_over_the_wall_clock_from_the_first_start_to_the_last_end():
    assert at_once.summed_up(found(late=1.0), ROW).images_per_s.mean == pytest.approx(4 * 18 / 3)


def test_every_figure_has_the_interval_of_its_windows():
    kept = at_once.summed_up(found(among=((9, 10, 11), (10, 10, 10)), alone=(10, 10, 10)), ROW)
    half = 4.302652729911275 * 0.1 / 3**0.5  # Student's t for two degrees of freedom
    assert (kept.kept_by_first.low, kept.kept_by_first.high) == pytest.approx((1 - half, 1 + half))
    assert "no difference seen" in at_once.described(kept).values()
    assert "a loss" in at_once.described(at_once.summed_up(found(), ROW)).values()


@pytest.mark.parametrize(
    ("launching", "shared", "said"),
    [
        (None, True, "share the cores and the memory bandwidth of one CPU"),
        ((0.010, 0.010), False, "waits for its host even alone"),
        ((0.001, 0.010), False, "what it loses is not lost in launching"),
    ],
)
def test_why_cards_lose_is_said_as_far_as_it_was_seen(launching, shared, said):
    assert said in at_once.caption(at_once.summed_up(found(launching=launching), ROW), shared)


def test_a_card_that_waits_only_among_the_others_is_told():
    by_all = found(launching=(0.001, 0.010))
    by_all[0]["launching"] = (0.019, 0.020)
    assert "among the others the first card waits for its host" in at_once.caption(
        at_once.summed_up(by_all, ROW), False
    )


def test_the_table_and_the_figure_say_every_speed():
    kept = at_once.summed_up(found(), ROW)
    table = at_once.table(kept).frame
    assert list(table["card"]) == ["npu:0, alone", "npu:0, process 0", "npu:1, process 1"]
    assert list(table["images/s"]) == ["32.00 (32.00 to 32.00)", "20.00 (20.00 to 20.00)", "16.00 (16.00 to 16.00)"]
    assert (
        figures.at_once(kept).alt == "In images per second, while all worked: npu:0 20, npu:1 16; the first alone: 32."
    )


def test_a_window_has_one_call_at_least_and_ends_when_its_time_is_over(cpu, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(one_card.time, "monotonic", lambda: now[0])

    def call():
        now[0] += 2

    assert one_card.window(call, cpu, 5.0) == (0.0, 6.0, 3)
    assert one_card.window(call, cpu, 0.1) == (6.0, 8.0, 1)


@pytest.fixture
def launched(monkeypatch, tmp_path, tiny):
    """The notebook's question where processes end as said and have found something; gives the run and the answer."""

    def run(ended, told=()):
        def launch(module, settings, processes, log):
            asked = json.loads(Path(settings).read_text())
            assert (module, processes) == ("ivit_helpers.benchmark.one_card", 2)
            assert (asked["devices"], asked["implementation"], asked["batch_size"]) == (["cpu", "cpu"], "fused", 4)
            Path(asked["answer"]).write_text(json.dumps(told))
            return ended

        monkeypatch.setattr(distributed, "launch", launch)
        asked = BenchmarkParameters(out=str(tmp_path), devices="cpu:2")
        begun = start(asked)
        return begun, at_once.cards_at_once(begun, [ROW], tiny, asked)

    return run


WELL = ["", ""]


def test_what_was_found_is_in_the_record_and_on_the_page(launched):
    run, shown = launched(WELL, found())
    assert run.record.cards.scaling_efficiency.mean == pytest.approx(36 / 64)
    assert {check.name: check.status for check in run.record.checks} == {at_once.RAN: "passed", at_once.SAME: "passed"}
    assert at_once.SHARED_CPU in shown._repr_html_()


def test_a_card_that_answers_otherwise_fails_by_name(launched):
    run, _ = launched(WELL, found(error=1e-3))
    [check] = run.record.failed
    assert (check.name, check.detail) == (
        at_once.SAME,
        "different: npu:0 (relative error 1.0e-03), npu:1 (relative error 1.0e-03)",
    )


def test_a_card_that_answers_with_nan_fails_too(launched):
    run, _ = launched(WELL, found(error=float("nan")))
    assert run.record.failed[0].detail == "different: npu:0 (not finite), npu:1 (not finite)"


def test_a_card_that_fails_is_named_and_not_those_that_waited_for_it(launched):
    run, shown = launched(["RuntimeError: Connection closed by peer", "cpu: out of memory"])
    [check] = run.record.failed
    assert (check.name, check.detail) == (at_once.RAN, "process 1: cpu: out of memory")
    assert "process 1: cpu: out of memory" in repr(shown)
    assert run.record.cards is None


def test_where_no_reason_is_a_card_s_own_all_are_named(launched):
    run, _ = launched(["RuntimeError: a bug", "it was killed"])
    assert run.record.failed[0].detail == "process 0: RuntimeError: a bug; process 1: it was killed"


def test_one_device_is_a_sentence(tiny, tmp_path):
    asked = BenchmarkParameters(out=str(tmp_path))
    run = start(asked)
    assert "not asked for" in repr(at_once.cards_at_once(run, [ROW], tiny, asked))
    assert run.record.checks == []


def test_two_parameters_that_contradict_each_other_are_refused_before_anything_starts():
    with pytest.raises(InputError, match="both choose where to run"):
        questions.check_inputs(BenchmarkParameters(devices="cpu:2", device="npu:1"))


@pytest.mark.slow
def test_two_processes_on_the_cpu_are_timed_together(model_folder, tmp_path):
    given = {"model": str(model_folder), "dtype": "float32", "out": str(tmp_path / "out"), "devices": "cpu:2"}
    done = executed("benchmark", **given, batch_sizes=[2], implementations=["fused"], warmup=0, repeats=3, seconds=0.5)
    kept = done.run.record.cards
    assert [(one.card, one.process, one.error, one.host_ms) for one in kept.cards] == [
        ("cpu", 0, 0.0, None),
        ("cpu", 1, 0.0, None),
    ]
    assert (kept.implementation, kept.batch_size, kept.windows) == ("fused", 2, one_card.WINDOWS)
    assert min(one.calls for one in kept.cards) >= one_card.WINDOWS
    assert 0 < kept.scaling_efficiency.mean < 1.5
    assert "All cards at once, and the first alone: fused, float32, batch 2" in " ".join(done.shown)
