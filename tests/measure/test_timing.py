import pytest
import torch

from ivit_helpers.measure import timing


def test_the_sample_counts_are_those_of_mlperf():
    assert [timing.minimum_samples(p) for p in (50, 90, 99)] == [11, 64, 662]


def test_a_percentile_is_given_only_with_enough_samples():
    assert timing.percentile([1.0, 2.0], 50) is None
    assert timing.percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert timing.percentile([1.0] * 63, 90) is None
    assert timing.percentile([float(i) for i in range(1, 101)], 90) == 90
    assert timing.percentile([1.0] * 661, 99) is None


def test_out_of_memory_becomes_a_row_and_the_sweep_goes_on(cpu):
    def hungry(pixels):
        if len(pixels) == 4:
            raise torch.OutOfMemoryError("NPU out of memory. Tried to allocate 20.00 GiB")
        return pixels * 2

    rows = timing.sweep(
        {"hungry": hungry, "modest": torch.neg}, lambda n: torch.zeros(n, 3, 2, 2), [1, 4, 8], cpu, warmup=1, repeats=5, seconds=5
    )
    errors = {(row.implementation, row.batch_size): row.error for row in rows}
    assert errors.pop(("hungry", 4)).startswith("out of memory: NPU out of memory")
    assert not any(errors.values())
    assert [len(row.samples_s) for row in rows if (row.implementation, row.batch_size) != ("hungry", 4)] == [5] * 5
    assert "images_per_s" not in rows[2].row("float32", 1)


def test_implementations_take_turns_and_the_first_call_stands_apart(cpu):
    order = []
    calls = {name: lambda pixels, name=name: order.append(name) for name in "ab"}
    first, _ = timing.alternating(calls, torch.zeros(2, 3, 2, 2), cpu, warmup=2, repeats=3, seconds=5)
    assert "".join(order) == "aaabbb" + "ab" * 3
    assert first.first_call_s is not None
    assert len(first.samples_s) == 3


def test_every_clock_reading_follows_a_synchronise(monkeypatch):
    events = []

    class Watched:
        def synchronize(self):
            events.append("synchronise")

    monkeypatch.setattr(timing.time, "perf_counter", lambda: events.append("clock") or len(events))
    timing.timed(lambda: events.append("work"), Watched())
    assert events == ["synchronise", "clock", "work", "synchronise", "clock"]


def test_a_row_says_throughput_latency_and_work():
    row = timing.Series("fused", 4, 0.5, [0.1, 0.2, 0.3]).row("bfloat16", 10**12)
    assert row.images_per_s == pytest.approx(20)
    assert row.ms_per_image == pytest.approx(50)
    assert row.tflops == pytest.approx(20)
    assert row.latency_ms.model_dump() == {"p50": pytest.approx(200), "p90": None, "p99": None, "mean": pytest.approx(200), "n": 3}
