import numpy as np
import pytest
import torch

from ivit_helpers.measure import samples, timing
from tests.clock import Clock


def test_the_sample_counts_are_those_of_mlperf():
    assert [samples.minimum_samples(p) for p in (50, 90, 99)] == [11, 64, 662]


def test_a_percentile_is_given_only_with_enough_samples():
    assert samples.percentile([1.0, 2.0], 50) is None
    assert samples.percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert samples.percentile([1.0] * 63, 90) is None
    assert samples.percentile([float(i) for i in range(1, 101)], 90) == 90
    assert samples.percentile([1.0] * 661, 99) is None


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def timed(clock, cpu, seconds, *, repeats=9, limit=1e9, images=2):
    [series] = timing.alternating(
        {"one": clock.implementation(seconds)},
        torch.zeros(images, 3, 2, 2),
        cpu,
        warmup=0,
        repeats=repeats,
        seconds=limit,
    )
    return series, series.row("float32", 10**9)


def test_three_windows_that_agree_end_the_timing(clock, cpu):
    series, row = timed(clock, cpu, lambda n: 9.0 if n == 0 else 0.5)
    assert (series.first_call_s, row.windows, row.steady, row.images_per_s) == (9.0, [3, 3, 3], True, 4.0)
    assert (row.images_per_s_low, row.images_per_s_high) == (4.0, 4.0)


def test_timing_goes_on_until_three_windows_agree_and_figures_are_of_those(clock, cpu):
    _, row = timed(
        clock, cpu, lambda n: 1.0 if n <= 7 else 0.5
    )  # the first two windows, and a call of the third, are slow
    assert row.windows == [3] * 6
    assert row.steady
    assert row.images_per_s == 4.0
    assert row.latency_ms.n == 9
    assert len(row.samples_ms) == 18, "every raw sample is kept"


def test_windows_that_never_agree_end_after_ten_and_the_row_is_not_steady(clock, cpu):
    _, row = timed(clock, cpu, lambda n: 0.5 * 1.03**n)
    assert len(row.windows) == 10
    assert row.steady is False
    assert row.images_per_s_low < row.images_per_s < row.images_per_s_high


def test_equal_throughput_with_another_median_is_not_steady(clock, cpu):
    window = {0: [1.0, 1.0, 1.0], 1: [0.5, 0.5, 2.0]}
    _, row = timed(clock, cpu, lambda n: 1.0 if n == 0 else window[(n - 1) // 3 % 2][(n - 1) % 3])
    assert row.steady is False


def test_a_window_ends_when_its_time_is_over(clock, cpu):
    _, row = timed(clock, cpu, lambda n: 2.0, repeats=3000, limit=30)
    assert row.windows == [6, 6, 6]  # each may take 10 seconds, and the call that is under way is finished


def test_fast_calls_are_made_more_often_so_that_a_window_lasts(clock, cpu):
    _, row = timed(clock, cpu, lambda n: 0.0625)
    assert row.windows == [8, 8, 8]
    _, row = timed(clock, cpu, lambda n: 1e-6)
    assert row.windows == [1000, 1000, 1000]


def test_a_call_that_takes_longer_than_all_the_time_is_made_three_times(clock, cpu):
    _, row = timed(clock, cpu, lambda n: 100.0, limit=1)
    assert row.windows == [1, 1, 1]


def test_the_interval_of_windows_is_students_and_one_window_has_none():
    low, high = samples.interval([9.0, 10.0, 11.0])
    assert (low, high) == (pytest.approx(10 - 2.4841, abs=1e-4), pytest.approx(10 + 2.4841, abs=1e-4))
    assert samples.interval([9.0]) is None


def test_the_interval_covers_the_true_mean_of_slowly_drifting_calls_where_single_calls_would_not():
    generator, covered = np.random.default_rng(0), 0
    for _ in range(400):
        level = np.repeat(generator.normal(10, 1, 3), 20)  # each window of 20 calls has its own level
        calls = level + generator.normal(0, 0.1, 60)
        low, high = samples.interval([*calls.reshape(3, 20).mean(axis=1)])
        covered += low <= 10 <= high
    assert 0.92 < covered / 400 < 0.98


def test_ratios_are_taken_round_by_round(clock, cpu):
    drift = lambda n: 1.02**n  # noqa: E731
    forwards = {"fast": clock.implementation(lambda n: 0.5 * drift(n)), "slow": clock.implementation(drift)}
    fast, slow = timing.alternating(forwards, torch.zeros(1, 3, 2, 2), cpu, warmup=0, repeats=9, seconds=1e9)
    ratios = timing.paired_ratios(fast, slow)
    assert ratios[0] == pytest.approx([2.0, 2.0, 2.0]), "a drift that both meet does not show"


def test_out_of_memory_becomes_a_row_and_the_sweep_goes_on(cpu):
    def hungry(pixels):
        if len(pixels) == 4:
            raise torch.OutOfMemoryError("NPU out of memory. Tried to allocate 20.00 GiB")
        return pixels * 2

    rows = timing.sweep(
        {"hungry": hungry, "modest": torch.neg},
        lambda n: torch.zeros(n, 3, 2, 2),
        [1, 4, 8],
        cpu,
        warmup=1,
        repeats=5,
        seconds=0.1,
    )
    errors = {(row.implementation, row.batch_size): row.error for row in rows}
    assert errors.pop(("hungry", 4)).startswith("out of memory: NPU out of memory")
    assert not any(errors.values())
    assert all(len(row.windows_s) >= 3 for row in rows if (row.implementation, row.batch_size) != ("hungry", 4))
    assert not rows[2].row("float32", 1).was_measured


def test_implementations_take_turns_and_the_first_call_stands_apart(clock, cpu):
    order = []
    forwards = {
        name: lambda pixels, name=name: order.append(name) or setattr(clock, "now", clock.now + 1) for name in "ab"
    }
    first, _ = timing.alternating(forwards, torch.zeros(2, 3, 2, 2), cpu, warmup=2, repeats=3, seconds=100)
    assert "".join(order) == "aaabbb" + "ab" * 3
    assert first.first_call_s == 1
    assert first.windows_s == [[1], [1], [1]]


def test_every_clock_reading_follows_a_synchronise(monkeypatch):
    events = []

    class Watched:
        def synchronize(self):
            events.append("synchronise")

    monkeypatch.setattr(timing.time, "perf_counter", lambda: events.append("clock") or len(events))
    timing.timed(lambda: events.append("work"), Watched())
    assert events == ["synchronise", "clock", "work", "synchronise", "clock"]


def test_a_row_says_throughput_latency_and_work():
    row = timing.Series("fused", 4, 0.5, [[0.1], [0.2], [0.3]]).row("bfloat16", 10**12)
    assert row.images_per_s == pytest.approx(20)
    assert row.ms_per_image == pytest.approx(50)
    assert row.tflops == pytest.approx(20)
    assert row.latency_ms.model_dump() == {
        "p50": pytest.approx(200),
        "p90": None,
        "p99": None,
        "mean": pytest.approx(200),
        "n": 3,
    }
