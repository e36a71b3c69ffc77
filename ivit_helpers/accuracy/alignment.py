"""Do the labels and the model's classes line up? Accuracy near chance almost always means that their orders differ.

A wrong order permutes the labels and leaves the answers right, so every known order can be tried on the labels afterwards.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivit_helpers.accuracy.predictions import Predictions
from ivit_helpers.accuracy.statistics import hits, wilson
from ivit_helpers.images.imagenet import devkit_order, synsets

ABOVE_CHANCE = 0.05
CONFIDENCE = 0.999
Order = NDArray[np.int64]
"""The class index at each position. A reader that takes the position for the class index makes this mistake."""


def known_orders(classes: int) -> dict[str, Order]:
    """The known mistakes: for each, the class that a label from 0 to classes - 1 really means."""
    numbers = np.arange(classes)
    as_text = np.array(sorted(range(classes), key=str))
    orders = {
        "the labels count from 1": (numbers - 1) % classes,
        "the labels are positions in numbers sorted as text (0, 1, 10, 100, ...)": as_text,
        "the labels were sorted as text (0, 1, 10, 100, ...) and are plain class numbers": np.argsort(as_text),
    }
    if classes == len(synsets()):
        devkit = np.searchsorted(synsets(), devkit_order())
        orders |= {
            "the labels are devkit ids (ILSVRC2012_ID), less 1": devkit,
            "the labels are devkit ids (ILSVRC2012_ID), which count from 1": np.roll(devkit, 1),
            "the labels are sorted synsets, read as devkit ids, or the head's classes are in the devkit's order": np.argsort(
                devkit
            ),
        }
    return orders


@dataclass(frozen=True)
class Alignment:
    """Whether top-1 is better than guessing, and the order of the labels that would explain it if not."""

    images: int
    right: int
    chance: float
    fitting: str = ""
    """The known order under which the labels fit; empty for none, or where none was needed"""
    right_when_fitted: int = 0

    @property
    def lines_up(self) -> bool | None:
        """True if top-1 is clearly above chance; False if it is not above it, or fits another order; None for too few images."""
        if _above_chance(self.right, self.images, self.chance):
            return True
        _, high = wilson(self.right, self.images)
        return False if self.fitting or high < self.chance + ABOVE_CHANCE else None

    def __str__(self) -> str:
        top1 = f"top-1 {self.right / self.images:.2%} of {self.images:,} images where guessing gives {self.chance:.2%}"
        if self.lines_up:
            return top1
        if self.lines_up is None:
            return f"{top1}: too few images to tell the two apart"
        if self.fitting:
            then = f"so read, top-1 is {self.right_when_fitted / self.images:.2%}; give labels that count the model's classes from 0"
            return f"labels and classes do not line up ({top1}): it fits that {self.fitting}; {then}"
        return (
            f"labels and classes do not line up ({top1}), and no known order of the labels fits either: "
            "check that head, weights and labels belong together"
        )


def _above_chance(right: int, images: int, chance: float) -> bool:
    """Whether the lower 99.9 % confidence bound of top-1 is more than 5 points above chance.

    The 5 points are there because a wrong order leaves some classes in their place (12 of 1000 numbers sorted as text), and the
    answers to those images stay right.
    """
    low, _ = wilson(right, images, CONFIDENCE)
    return low >= chance + ABOVE_CHANCE


def check_alignment(predictions: Predictions) -> Alignment | None:
    """Judge the scored images; None where there are none."""
    scored = predictions.scored
    if scored.empty:
        return None
    answers = np.array(predictions.answers or range(len(predictions.classes)))
    right, chance = int(hits(scored, 1).sum()), 1 / len(answers)
    if _above_chance(right, len(scored), chance):
        return Alignment(len(scored), right, chance)
    # Where only some classes may be answered, they are numbered among themselves, and a wrong order is one of those numbers.
    labels, said = (np.searchsorted(answers, scored[column].to_numpy(dtype=np.int64)) for column in ("label", "class1"))
    counts = {name: int((order[labels] == said).sum()) for name, order in known_orders(len(answers)).items()}
    name = max(counts, key=lambda name: counts[name])
    fits = _above_chance(counts[name], len(scored), chance)
    return Alignment(len(scored), right, chance, name, counts[name]) if fits else Alignment(len(scored), right, chance)
