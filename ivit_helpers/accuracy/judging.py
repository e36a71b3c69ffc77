"""Is an accuracy as high as it must be? Judged by intervals, so that few images neither pass nor fail by chance."""

from typing import Literal

from ivit_helpers.accuracy.statistics import wilson
from ivit_helpers.model.published import PublishedAccuracy
from ivit_helpers.record.rows import AccuracyRow

SURE = 0.999
TOPS: tuple[Literal[1, 5], ...] = (1, 5)


def judge_least(row: AccuracyRow, least: float) -> tuple[bool | None, str]:
    """Whether top-1 reaches `least`, and why: it fails only if the whole 95 % interval is below, and None means too few images."""
    top1, low, high = row.best(1)
    said = f"top-1 {top1:.2%} (95 % interval {low:.2%} to {high:.2%}), at least {least:.0%} is expected of this model on {row.set}"
    if top1 >= least or high < least:
        return top1 >= least, said
    return None, f"{said}; {row.scored:,} images are too few to judge, because the interval contains {least:.0%}"


def judge_accuracy(row: AccuracyRow, expected: PublishedAccuracy) -> tuple[bool | None, str]:
    """Whether the published figures were reached, and why; None where that cannot be judged.

    On the whole set both must be within the tolerance. On images drawn at random from it, a published figure outside the 99.9 %
    interval is a failure, and a figure inside it proves nothing. Other images, a few classes for example, may be easier or harder.
    """
    both = {f"top-{k}": (row.best(k)[0], expected.best(k)) for k in TOPS}
    said = ", ".join(f"{name} {here:.3%} ({100 * (here - there):+.3f} points)" for name, (here, there) in both.items())
    needed = f"within {100 * expected.tolerance:g} points of the published figures"
    if (row.drawn_from, row.images, row.scored) == (None, expected.images, expected.labelled):
        return all(
            abs(here - there) <= expected.tolerance + 1e-9 for here, there in both.values()
        ), f"{said}; {needed} is required"
    only = f"{said}; {row.scored:,} images were scored, and only a run over all {expected.labelled:,} of the set can be judged to be {needed}"
    if row.drawn_from != expected.images:
        return None, only
    limits = {k: wilson(row.hits(k), row.scored, SURE) for k in TOPS}
    outside = [k for k, (low, high) in limits.items() if not low <= expected.best(k) <= high]
    return (
        (False, f"{only}; the published figure is outside the 99.9 % interval of this draw")
        if outside
        else (None, only)
    )
