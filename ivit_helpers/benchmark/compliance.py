"""Was the network really computed while it was timed? Three questions, after MLPerf's compliance tests TEST01, TEST04 and TEST05."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ivit_helpers.device.device import Device
from ivit_helpers.measure.timing import Forward, timed
from ivit_helpers.model.kernels import relative_error
from ivit_helpers.record.record import BenchmarkRecord
from ivit_helpers.record.run import Run
from ivit_helpers.report.table import Table

DISTINCT = 2
"""Batches of different images that are timed in turn"""
LEAST_ROUNDS, MOST_ROUNDS, SECONDS = 3, 50, 6.0
LONGEST_SECONDS = 60.0
"""After which one round has to be enough, where a call takes a minute"""
ALLOWED = 1.10
"""How many times as fast repeated images may be (MLPerf), and how far another seed may be away"""
RESAMPLES = 1000


@dataclass(frozen=True)
class Compliance:
    """What the three questions found."""

    matching: int
    """Timed batches whose answer is the one of an untimed call"""
    batches: int
    told_apart: bool
    """Whether different images have different answers"""
    repeated: tuple[float, float]
    """How many times as fast one repeated image is as distinct ones: 95 % interval of the median"""
    other_seed: tuple[float, float]


def _interval(ratios: Sequence[float]) -> tuple[float, float]:
    drawn = np.median(np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios))), axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist()
    return low, high


def examine(forward: Forward, batches: Sequence[Tensor], other: Sequence[Tensor], device: Device) -> Compliance:
    """Time distinct batches, one image repeated, and another seed's batches in turn, and compare what was computed.

    batches, other: pixel values (B, 3, height, width) on the device, of two seeds.
    """
    repeated = batches[0][:1].expand_as(batches[0]).contiguous()
    kept: dict[int, Tensor] = {}
    ratios: tuple[list[float], list[float]] = ([], [])
    with device.inference():
        expected = [forward(batch).cpu() for batch in batches]
        began = time.perf_counter()
        for number in range(MOST_ROUNDS):
            passed = time.perf_counter() - began
            if number and (passed > LONGEST_SECONDS or (number >= LEAST_ROUNDS and passed > SECONDS)):
                break
            place, answer = number % len(batches), []
            distinct = timed(lambda: answer.append(forward(batches[place])), device)  # noqa: B023
            kept[place] = answer[0].cpu()
            ratios[0].append(distinct / timed(lambda: forward(repeated), device))
            ratios[1].append(distinct / timed(lambda: forward(other[place]), device))  # noqa: B023
    rounding = torch.finfo(expected[0].dtype).eps  # of kernels that add in another order every time
    matching = sum(relative_error(answer, expected[place]) <= rounding for place, answer in kept.items())
    apart = all(relative_error(one, two) > rounding for one, two in pairwise(expected))
    return Compliance(matching, len(kept), apart, *map(_interval, ratios))


def check_compliance(run: Run[BenchmarkRecord], found: Compliance | None) -> Table:
    """Keep the three answers as checks; None where nothing was measured."""
    if found is None:
        return Table([{"compliance": "nothing was measured"}])
    said = "{:.3f} to {:.3f} times as fast (95 % interval), up to {:.2f} times is accepted"
    apart = "have" if found.told_apart else "do not have"
    same = f"{found.matching} of {found.batches} timed batches have the answer of an untimed call, to one rounding"
    answers = {
        "timed calls compute the network": (
            found.matching == found.batches and found.told_apart,
            f"{same}; different images {apart} different answers",
        ),
        "repeated images are not faster": (found.repeated[0] <= ALLOWED, said.format(*found.repeated, ALLOWED)),
        "other images are as fast": (
            found.other_seed[0] <= ALLOWED and found.other_seed[1] >= 1 / ALLOWED,
            said.format(*found.other_seed, ALLOWED),
        ),
    }
    for name, (passed, detail) in answers.items():
        run.check(name, passed, detail)
    return Table(
        [{"question": name, "answer": detail} for name, (_, detail) in answers.items()],
        "After MLPerf's compliance tests",
    )
