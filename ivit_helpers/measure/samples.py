"""What can be said from samples: percentiles that they carry, intervals, agreement of windows."""

import math
import statistics
from collections.abc import Sequence

import scipy  # loads scipy.stats, which takes a second, when it is first used

AGREEMENT = 0.05
"""The largest of the windows that are compared may exceed the smallest by this share"""
MEDIAN_FROM = 3


def minimum_samples(percentile: float, confidence: float = 0.99) -> int:
    """Fewest samples that carry a percentile: with this confidence, at least two samples are beyond it.

    Source: the early stopping rule of MLPerf loadgen; 11 for the median, 64 for p90, 662 for p99 at 99 % confidence.
    """
    count = 2
    while scipy.stats.binom.cdf(1, count, 1 - percentile / 100) > 1 - confidence:
        count += 1
    return count


def percentile(samples: Sequence[float], wanted: float) -> float | None:
    """The nearest-rank percentile; None where the samples are too few to say. The median is given from three samples on."""
    if len(samples) < (MEDIAN_FROM if wanted == 50 else minimum_samples(wanted)):
        return None
    if wanted == 50:
        return statistics.median(samples)
    rank = -(-len(samples) * wanted // 100)  # ceiling
    return sorted(samples)[int(rank) - 1]


def interval(means: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """The interval of a mean from the means of consecutive windows; None for fewer than two.

    Calls that follow each other are alike, so an interval from single calls is too narrow. The means of windows (batch means, a
    standard method of simulation) are nearly independent: Student's t over them.
    """
    if len(means) < 2:
        return None
    half = (
        float(scipy.stats.t.ppf((1 + confidence) / 2, len(means) - 1)) * statistics.stdev(means) / math.sqrt(len(means))
    )
    middle = statistics.fmean(means)
    return middle - half, middle + half


def interval_in_words(low: float | None, high: float | None) -> str:
    """An interval for a headline."""
    return "no interval" if low is None or high is None else f"95 % interval {low:.2f} to {high:.2f}"


def agree(values: Sequence[float]) -> bool:
    """Whether the largest is within the agreed share of the smallest."""
    return max(values) <= (1 + AGREEMENT) * min(values)
