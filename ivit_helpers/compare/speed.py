"""Two runs' timings of one configuration: how many times as fast the later one is, with its interval.

The runs were not timed in turn, so there are no rounds to pair: the calls of one run are compared with the calls of the other.
"""

import math
import statistics
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import numpy as np
from scipy.stats import t as student

from ivit_helpers.measure.timing import WINDOWS
from ivit_helpers.record.rows import CompareRow, TimingRow

THRESHOLD = 0.07
"""A change is reported from here on: the slower one takes 7 % longer (source: torchbench's regression detector)"""
RESAMPLES = 2000
Outcome = Literal["better", "worse", "no difference seen", "not judged"]
Windows = Sequence[Sequence[float]]


def used_windows(row: TimingRow) -> list[list[float]]:
    """Milliseconds of every call in the windows that figures are of: the last three where they agree, else all."""
    ends = list(accumulate(row.windows))
    windows = [row.samples_ms[end - count : end] for end, count in zip(ends, row.windows, strict=True)]
    return windows[-WINDOWS:] if row.steady else windows


def interval_of_ratio(first: Windows, later: Windows) -> tuple[float, float] | None:
    """The 95 % interval of the mean time of `first` over that of `later`: the wider of two.

    One is Welch's t interval over the logarithms of the windows' means, because calls that follow each other are alike. The other is a
    bootstrap over windows and over the calls in each, because three windows can agree by luck. None for fewer than two windows.
    """
    if min(len(first), len(later)) < 2:
        return None
    bounds = [_by_windows(first, later), _by_bootstrap(first, later)]
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def _by_windows(first: Windows, later: Windows) -> tuple[float, float]:
    logs = [[math.log(statistics.fmean(window)) for window in windows] for windows in (first, later)]
    errors = [statistics.variance(values) / len(values) for values in logs]
    middle = statistics.fmean(logs[0]) - statistics.fmean(logs[1])
    if not sum(errors):
        return math.exp(middle), math.exp(middle)
    freedom = sum(errors) ** 2 / sum(error**2 / (len(values) - 1) for error, values in zip(errors, logs, strict=True))
    half = float(student.ppf(0.975, freedom)) * math.sqrt(sum(errors))
    return math.exp(middle - half), math.exp(middle + half)


def _by_bootstrap(first: Windows, later: Windows) -> tuple[float, float]:
    generator = np.random.default_rng(0)
    low, high = np.percentile(_resampled(first, generator) / _resampled(later, generator), [2.5, 97.5]).tolist()
    return low, high


def _resampled(windows: Windows, generator: np.random.Generator) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Mean times (RESAMPLES,) of windows drawn with replacement, whose calls are drawn with replacement."""
    means = np.array([generator.choice(window, (RESAMPLES, len(window))).mean(axis=1) for window in windows])
    drawn = generator.integers(len(windows), size=means.shape)
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = np.take_along_axis(means, drawn, axis=0).mean(axis=0)
    return found


def compare_speed(run: int, notebook: str, name: str, first: TimingRow, later: TimingRow) -> CompareRow:
    """One configuration that both runs measured."""
    assert first.images_per_s is not None
    assert later.images_per_s is not None
    change = later.images_per_s / first.images_per_s
    bounds = interval_of_ratio(used_windows(first), used_windows(later))
    low, high = (min(bounds[0], change), max(bounds[1], change)) if bounds else (None, None)
    row = CompareRow(
        run=run, kind="speed", notebook=notebook, name=name, unit="images/s", first=first.images_per_s, later=later.images_per_s,
        change=change, low=low, high=high, outcome="not judged", detail="too few windows for an interval",
    )  # fmt: skip
    if low is None or high is None:
        return row
    row.outcome, row.detail = _judged(change, low, high)
    unsteady = [which for which, one in (("first", first), ("later", later)) if one.steady is False]
    if unsteady:
        row.detail += f"; the timing of the {' and the '.join(unsteady)} run did not settle"
    return row


def _judged(change: float, low: float, high: float) -> tuple[Outcome, str]:
    if low <= 1 <= high:
        return "no difference seen", "the interval holds 1"
    if max(change, 1 / change) - 1 <= THRESHOLD:
        return (
            "no difference seen",
            f"the slower one takes {max(change, 1 / change) - 1:.1%} longer, and {THRESHOLD:.0%} are ignored",
        )
    return (
        "worse" if change < 1 else "better"
    ), f"{'slower' if change < 1 else 'faster'}, beyond the noise of both runs"
