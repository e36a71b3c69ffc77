"""Do the labels and the model's classes line up? An accuracy near chance is almost always a fault of their order.

A wrong order leaves the predictions right and the labels permuted, so every order that is known can be tried on them afterwards.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivit_helpers.accuracy.predictions import Predictions
from ivit_helpers.accuracy.statistics import hits, wilson
from ivit_helpers.images import devkit_order, synsets

LEAST_IMAGES = 200
ABOVE_CHANCE = 0.05
CONFIDENCE = 0.999
Order = NDArray[np.int64]
"""Class index at each position, which another reader took for the class index itself"""


def known_orders(classes: int) -> dict[str, Order]:
    """What a label may really mean: for each known mistake, the class that belongs to every label from 0 to classes - 1."""
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
            "the labels are sorted synsets, read as devkit ids, or the head's classes are in the devkit's order": np.argsort(devkit),
        }
    return orders


@dataclass(frozen=True)
class Alignment:
    """Whether top-1 can be told from guessing, and the order that would explain it if not."""

    images: int
    right: int
    chance: float
    fitting: str
    """The known order under which the labels fit; empty for none, or where none was needed"""
    right_when_fitted: int

    @property
    def near_chance(self) -> bool:
        return _near_chance(self.right, self.images, self.chance)

    def __str__(self) -> str:
        top1 = f"top-1 {self.right / self.images:.2%} of {self.images:,} images where guessing gives {self.chance:.2%}"
        if not self.near_chance:
            return top1
        if self.fitting:
            then = f"so read, top-1 is {self.right_when_fitted / self.images:.2%}; give labels that count the model's classes from 0"
            return f"labels and classes do not line up ({top1}): it fits that {self.fitting}; {then}"
        return (
            f"labels and classes do not line up ({top1}), and no known order of the labels fits either: "
            "check that head, weights and labels belong together"
        )


def _near_chance(right: int, images: int, chance: float) -> bool:
    """Whether the lower confidence bound of top-1 is within 5 points of chance.

    More than luck must be allowed for: a wrong order leaves some classes in their place (of 1000 numbers sorted as text, 12), and
    the answers to those images stay right.
    """
    low, _ = wilson(right, images, CONFIDENCE)
    return low < chance + ABOVE_CHANCE


def check_alignment(predictions: Predictions) -> Alignment | None:
    """Judge the scored images; None where they are fewer than 200."""
    scored = predictions.scored
    if len(scored) < LEAST_IMAGES:
        return None
    answers = np.array(predictions.answers or range(len(predictions.classes)))
    right, chance = int(hits(scored, 1).sum()), 1 / len(answers)
    if not _near_chance(right, len(scored), chance):
        return Alignment(len(scored), right, chance, "", right)
    # Where only some classes may be answered, they are numbered among themselves, and a wrong order is one of those numbers.
    labels, said = (np.searchsorted(answers, scored[column].to_numpy(dtype=np.int64)) for column in ("label", "class1"))
    counts = {name: int((order[labels] == said).sum()) for name, order in known_orders(len(answers)).items()}
    name = max(counts, key=lambda name: counts[name])
    fits = not _near_chance(counts[name], len(scored), chance)
    return Alignment(len(scored), right, chance, name if fits else "", counts[name] if fits else right)
