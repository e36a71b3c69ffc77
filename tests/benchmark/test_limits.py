"""Bounds, the largest batch, compliance, copies and energy: on devices whose memory, power and speed the test sets."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ivit_helpers.benchmark import around, compliance, frontier
from ivit_helpers.benchmark.ceilings import Ceilings
from ivit_helpers.benchmark.products import Products
from ivit_helpers.device.cpu import CPU
from ivit_helpers.measure.timing import pixel_batch
from ivit_helpers.record.parameters import BenchmarkParameters
from ivit_helpers.record.rows import BenchmarkRow, Latency
from ivit_helpers.record.run import start
from tests.builders import SMALL, randomised
from tests.clock import Clock


class Card(CPU):
    """A device with memory of its own for so many images, that takes so many watts."""

    uses_host_memory = False
    images = 1000
    watts = None

    def power_watts(self):
        return self.watts

    def forward(self, pixels):
        if len(pixels) > self.images:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of ..."
            )
        return pixels * 2


@pytest.fixture
def card():
    return Card(torch.device("cpu"), "a card")


def batch(size):
    return torch.zeros(size, 1, 1, 1)


@pytest.mark.parametrize("images", [0, 1, 2, 3, 7, 8, 100, 1000, 4095, 4096])
def test_the_frontier_is_found_exactly(card, images):
    Card.images = images
    found = frontier.frontier(card.forward, batch, card)
    assert (found.largest, found.exact) == (images, images < 4096)
    assert all(one.fits == (one.batch_size <= images) for one in found.tried)
    assert {one.asked_bytes for one in found.tried if not one.fits} <= {round(1.5 * 2**30)}
    assert len(found.tried) <= 2 * 13
    assert frontier.swept_sizes(found)[-1:] == ([images] if images else [])


def test_an_error_that_is_not_about_memory_is_not_a_frontier(card):
    def broken(pixels):
        raise RuntimeError("the card fell out")

    with pytest.raises(RuntimeError, match="fell out"):
        frontier.frontier(broken, batch, card)


def test_a_batch_that_would_take_too_long_is_not_tried(cpu, monkeypatch):
    clock = Clock(monkeypatch)

    def forward(pixels):
        clock.now += 10.0 * len(pixels)

    found = frontier.frontier(forward, batch, cpu)
    assert [one.batch_size for one in found.tried] == [1, 2]
    assert found.ended == "a call of 4 images would take about 40 s, more than 30"


def row(size, images_per_s):
    latency = Latency(p50=1e3 * size / images_per_s, p90=None, p99=None, mean=1e3 * size / images_per_s, n=30)
    return BenchmarkRow(
        implementation="fused", dtype="float32", batch_size=size, images_per_s=images_per_s, latency_ms=latency
    )


def test_three_purposes_get_their_batch_size_and_the_reason():
    table = frontier.recommended([row(1, 10), row(4, 35), row(8, 39), row(16, 40), row(32, 40.5)])
    assert table.frame["batch"].tolist() == ["1", "32", "8"]


LIMITS = Ceilings(
    {"cube": 245.76}, measured=200.0, dtype=torch.bfloat16, published_gb_per_s=None, copied_gb_per_s=800.0,
    weight_bytes=11_805_587_200, flops_per_image=3_073 * 10**9,
)  # fmt: skip


def test_a_small_batch_is_bound_by_memory_and_a_large_one_by_arithmetic():
    # 11.8 GB at 800 GB/s are 14.8 ms; an image takes 12.5 ms at 245.76 TFLOP/s
    assert LIMITS.bound(1, None) == pytest.approx(1 / (11.8055872 / 800), rel=1e-6)
    assert LIMITS.bound(8, None) == pytest.approx(245.76 / 3.073, rel=1e-6)


def test_without_a_vendors_peak_the_best_that_was_measured_is_the_bound():
    unknown = dataclasses.replace(LIMITS, published={})
    assert unknown.bound(8, 150.0) == pytest.approx(200.0 / 3.073)
    assert unknown.bound(8, 220.0) == pytest.approx(220.0 / 3.073)


def test_weights_that_fit_into_a_cache_give_no_memory_bound():
    small = dataclasses.replace(LIMITS, weight_bytes=10**6)
    assert small.gb_per_s is None
    assert small.bound(1, None) == pytest.approx(245.76 / 3.073)


def test_the_products_are_those_that_the_operations_count(cpu):
    network = randomised(SMALL)
    counter = FlopCounterMode(display=False)
    with cpu.inference(), counter:
        Products(network)(torch.randn(2, 3, 56, 56))
    assert counter.get_total_flops() == 2 * SMALL.flops_per_image


@pytest.fixture
def run(tmp_path):
    return start(BenchmarkParameters(out=str(tmp_path)))


def answers(run, forward, device):
    batches, other = (
        [torch.randn(4, 3, generator=torch.Generator().manual_seed(seed + n)) for n in range(2)] for seed in (0, 100)
    )
    compliance.check_compliance(run, compliance.examine(forward, batches, other, device))
    return {check.name: check.status for check in run.record.checks}


def test_a_network_that_is_computed_complies(run, cpu, monkeypatch):
    clock = Clock(monkeypatch)

    def forward(x):
        clock.now += 1.0
        return x * 2

    assert set(answers(run, forward, cpu).values()) == {"passed"}


def test_answers_that_are_only_right_untimed_are_seen(run, cpu):
    timing = []

    def forward(x):
        timing.append(1)
        return x * 2 if len(timing) <= 2 else torch.zeros_like(x)  # the two untimed calls come first

    assert answers(run, forward, cpu)["timed calls compute the network"] == "failed"


def test_an_answer_that_ignores_its_images_is_seen(run, cpu):
    assert answers(run, torch.ones_like, cpu)["timed calls compute the network"] == "failed"


def test_a_cache_is_seen(run, cpu, monkeypatch):
    clock = Clock(monkeypatch)

    def forward(x):
        clock.now += 0.5 if torch.equal(x[0], x[1]) else 1.0
        return x * 2

    assert answers(run, forward, cpu) == {
        "timed calls compute the network": "passed",
        "repeated images are not faster": "failed",
        "other images are as fast": "passed",
    }


def test_a_cpu_copies_nothing_and_has_no_power(tiny):
    pixels = pixel_batch(tiny, 1)
    assert around.transfer(tiny.network, pixels, tiny.device) is None
    assert around.joules_per_image(tiny.network, pixels, tiny.device) is None


def test_energy_is_power_times_the_time_of_an_image(card, monkeypatch):
    Card.watts, clock = 250.0, Clock(monkeypatch)
    found = around.joules_per_image(clock.implementation(lambda n: 0.2), batch(5), card, seconds=4)
    assert found == pytest.approx(250.0 * 0.2 / 5)


def test_copies_are_measured_where_there_is_something_to_copy(card):
    Card.images = 10
    found = around.transfer(card.forward, batch(3), card)
    assert found.batch_size == 3
    assert found.copy_in_ms >= 0 <= found.copy_out_ms
