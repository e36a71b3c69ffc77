"""How many times as fast one implementation is as another, from calls that were made in turn."""

import math
import statistics
from itertools import chain

import numpy as np

from ivit_helpers.measure.samples import interval
from ivit_helpers.measure.timing import Series, paired_ratios
from ivit_helpers.record.rows import Ratio

RESAMPLES = 2000


def ratio(one: Series, baseline: Series | None) -> Ratio | None:
    """The median of the round by round ratios to the baseline, with the wider of two 95 % intervals; None where one was not measured.

    One is from the windows' medians and one resamples the rounds (bootstrap): three windows can agree by luck, and rounds that follow
    each other are alike.
    """
    if baseline is None or one.error or baseline.error or not one.windows_s or not baseline.windows_s:
        return None
    windows = paired_ratios(one, baseline)
    rounds = list(chain.from_iterable(windows))
    median = statistics.median(rounds)
    low, high = interval([statistics.median(window) for window in windows]) or (0.0, math.inf)
    drawn = np.median(np.random.default_rng(0).choice(rounds, (RESAMPLES, len(rounds))), axis=1)
    least, most = np.percentile(drawn, [2.5, 97.5]).tolist()
    return Ratio(
        baseline=baseline.implementation, median=median, low=min(low, least), high=max(high, most), n=len(rounds)
    )
