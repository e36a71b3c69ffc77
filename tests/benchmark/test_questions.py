"""What a benchmark claims, and when it claims nothing."""

import itertools
import re

import numpy as np
import pytest
import torch

from ivit_helpers.benchmark import questions
from ivit_helpers.benchmark.ceilings import Ceilings
from ivit_helpers.measure.conditions import Watch
from ivit_helpers.measure.fidelity import Agreement
from ivit_helpers.record.parameters import BenchmarkParameters
from ivit_helpers.record.run import start
from tests.clock import Clock

SOUND = Agreement(1e-7, 1e-7, torch.float32)
LIMITS = Ceilings(
    {},
    measured=1.0,
    dtype=torch.float32,
    published_gb_per_s=None,
    copied_gb_per_s=100.0,
    weight_bytes=10**6,
    flops_per_image=10**11,
)


@pytest.fixture
def measured(tiny, tmp_path, monkeypatch):
    """Measure implementations whose n-th calls take given seconds, on a machine that others use as said; gives the run and its rows."""
    clock = Clock(monkeypatch)

    def measure(seconds, judged=None, busy=False):
        monkeypatch.setattr(Watch, "is_quiet", not busy)
        monkeypatch.setattr(questions, "Products", lambda network: clock.implementation(lambda n: 0.4))
        asked = BenchmarkParameters(out=str(tmp_path), batch_sizes=[2], repeats=30, warmup=0, seconds=86_400)
        run = start(asked)
        forwards = {name: clock.implementation(one) for name, one in seconds.items()}
        judged = judged or dict.fromkeys(seconds, SOUND)
        rows = questions.measure(run, forwards, judged, tiny, asked, LIMITS)
        run.finish(questions.headline(rows))
        return run, rows

    return measure


def noisy(seconds, spread, seed):
    values = seconds * (1 + spread * np.random.default_rng(seed).standard_normal(1000))
    return lambda n: float(values[n])


def test_every_speed_and_ratio_of_a_headline_has_its_interval(measured):
    run, _ = measured({"fused": noisy(0.5, 0.002, 0), "transformers-sdpa": noisy(0.6, 0.002, 1)})
    assert run.record.status == "passed", run.record.checks
    pattern = r"4\.\d\d images/s \(95 % interval [34]\.\d\d to 4\.0\d\) at batch 2 \(fused, float32, 30 calls\), "
    pattern += r"40% of what this device could do at that batch size, "
    assert re.match(
        pattern + r"1\.20 times as fast as transformers-sdpa beside it \(95 % interval", run.record.headline
    )


def test_a_ratio_whose_interval_holds_1_is_no_difference_seen(measured):
    run, _ = measured({"fused": noisy(0.5, 0.01, 4), "transformers-sdpa": noisy(0.5, 0.01, 5)})
    assert "no difference from transformers-sdpa seen" in run.record.headline
    assert "times as fast as transformers-sdpa beside" not in run.record.headline


def test_a_row_that_does_not_settle_makes_the_verdict_not_judged_and_is_named(measured):
    run, rows = measured({"fused": lambda n: 0.5, "transformers-sdpa": lambda n: 0.5 if n // 10 % 2 else 5.0})
    assert [row.steady for row in rows] == [True, False]
    assert run.record.status == "not_judged"
    assert run.record.ending.startswith(
        "Not judged: the timing of 1 of 2 configurations did not settle within 5% in throughput"
    )
    assert "transformers-sdpa at batch 2 (" in run.record.reason
    assert "fused at batch 2" not in run.record.reason


def test_a_cpu_that_is_busy_with_other_work_makes_the_verdict_not_judged(measured):
    run, _ = measured({"fused": lambda n: 0.5}, busy=True)
    assert run.record.status == "not_judged"
    assert run.record.reason.startswith("other processes took ")
    assert run.record.conditions is not None


def test_an_implementation_that_disagrees_is_not_timed_and_stays_as_a_row_with_the_reason(measured):
    wrong = Agreement(1e-2, 1e-7, torch.float32)
    run, [fused, plain] = measured({"fused": lambda n: 0.5, "plain": lambda n: 0.1}, {"fused": wrong, "plain": SOUND})
    assert fused.error.startswith("refused before timing: relative error 1.00e-02")
    assert not fused.was_measured
    assert plain.was_measured
    assert run.record.status == "failed"


def test_when_nothing_can_be_measured_nothing_is_claimed(measured):
    run, _ = measured({"fused": lambda n: 0.5}, {"fused": "RuntimeError: no kernel"})
    assert run.record.headline == "Nothing could be measured"
    assert run.record.status == "failed"


def test_every_raw_sample_is_in_the_record_and_in_the_table(measured):
    run, rows = measured({"fused": lambda n: 0.5 if n < 20 else 0.4})
    [row] = rows
    assert sum(row.windows) == len(row.samples_ms) > row.latency_ms.n
    lines = (run.folder / "benchmark_samples.csv").read_text().splitlines()
    assert len(lines) == 1 + len(row.samples_ms)
    assert list(itertools.accumulate(row.windows))[-1] == len(row.samples_ms)
