"""Two runs' answers on the same images: how often they agree, and whether rounding explains the rest.

Two accuracies hide most of the difference between two devices: the sampling error at 50,000 images is 0.14 points. The images are the
same in both runs, so the answers are compared image by image. An image has flipped when its first class differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from ivit_helpers.accuracy.predictions import BEST, Predictions
from ivit_helpers.accuracy.reference import NOT_COMPARED, OtherRun
from ivit_helpers.accuracy.statistics import hits
from ivit_helpers.errors import InputError
from ivit_helpers.images.imagenet import RULES

NEAR_TIE = 0.01
"""Logits: two classes whose odds differ by 1 % are a tie on any device"""
TYPICAL_CHANGES = 10
"""A flip is explained while both margins are within this many median changes of the margin. For normally distributed rounding that
is 6.7 standard deviations, and still 3.4 on images that round twice as coarsely as the median one."""
SHARE_OF_MARGIN = 0.5
"""... and never above this share of the median margin, so that a fault that moves every answer is not taken for rounding. The
median change of bfloat16 against float32 on the embedded miniature is 0.013 of the median margin, of a random one 0.033."""


CHECKED = ("label_there", "also_there", "outcome", "outcome_there", "set")
"""Columns of the two tables beside each other that say nothing more once the labels were found to be the same"""


@dataclass(frozen=True)
class Comparison:
    """The answers of this run beside another's, image by image."""

    images: pd.DataFrame
    """This run's table, with the other's columns as <name>_there; its index is the image's number in the set"""

    @cached_property
    def answered(self) -> pd.DataFrame:
        """The images that both runs answered, with `change`: by how many logits the margin moved."""
        both = self.images.dropna(subset=["class1", "class1_there"])
        same = both["class1"] == both["class1_there"]
        signed = np.where(same, both["margin"], -both["margin"])
        return both.assign(change=(signed - both["margin_there"]).abs(), flipped=~same)

    @property
    def answered_once(self) -> pd.DataFrame:
        """The images that only one of the runs answered: unreadable, missing or not finite in the other."""
        return self.images[self.images["class1"].isna() != self.images["class1_there"].isna()]

    @property
    def flipped(self) -> pd.DataFrame:
        """The images whose first class differs, the largest margin of either run first."""
        found = self.answered[self.answered["flipped"]]
        return found.assign(surest=found[["margin", "margin_there"]].max(axis=1)).sort_values(
            "surest", ascending=False, kind="stable"
        )

    @property
    def near_tie(self) -> float:
        """The largest margin, in logits, at which rounding explains a flip."""
        agreeing = self.answered[~self.answered["flipped"]]
        usual = [
            TYPICAL_CHANGES * agreeing["change"].median(),
            SHARE_OF_MARGIN * self.answered["margin_there"].median(),
        ]
        return max(NEAR_TIE, float(min(usual))) if len(agreeing) else NEAR_TIE

    @property
    def unexplained(self) -> pd.DataFrame:
        """The flips at a margin that is too large for rounding."""
        return self.flipped[self.flipped["surest"] > self.near_tie]

    @property
    def decoded_alike(self) -> int:
        """Images of which both networks got the same pixels, bit for bit."""
        return int((self.answered["pixels"] == self.answered["pixels_there"]).sum())

    @property
    def labelled(self) -> int:
        """Images that both runs answered and that have a label."""
        return int(self.answered["label"].notna().sum())

    @property
    def turned(self) -> tuple[int, int]:
        """How many labelled images were right there and are wrong here, and the other way round."""
        labelled = self.answered[self.answered["label"].notna()]
        here, there = hits(labelled, 1), hits(labelled.assign(class1=labelled["class1_there"]), 1)
        return int((there & ~here).sum()), int((here & ~there).sum())

    @property
    def p(self) -> float:
        """McNemar's exact p: the probability that chance alone gives a split at least as one-sided. Two-sided binomial test of 1/2."""
        lost, won = self.turned
        return float(binomtest(lost, lost + won, 0.5).pvalue) if lost + won else 1.0

    @property
    def largest_score_difference(self) -> float:
        """Of one class of one image, among the classes that both runs name."""
        table, largest = self.answered, 0.0
        for here, there in product(range(1, BEST + 1), repeat=2):
            if f"class{here}" in table and f"class{there}_there" in table:
                same = table[table[f"class{here}"] == table[f"class{there}_there"]]
                if len(same):
                    largest = max(largest, float((same[f"score{here}"] - same[f"score{there}_there"]).abs().max()))
        return largest


def _labelled_otherwise(joined: pd.DataFrame) -> pd.Series:
    """Whether the two runs have other right classes for an image."""
    here, there = (
        pd.to_numeric(joined[f"label{side}"], errors="coerce").astype("Int64").fillna(-1) for side in ("", "_there")
    )
    others_here, others_there = (joined[f"also{side}"].fillna("") for side in ("", "_there"))
    return (here != there) | (others_here != others_there)


def compare(predictions: Predictions, reference: OtherRun) -> Comparison:
    """Put this run beside another. Raises InputError unless the reference has every image of this run, with the same label."""
    here = predictions.identified(predictions.table)
    here = here if "also" in here else here.assign(also="")
    return _beside(here, predictions.set_name, predictions.answers or range(len(predictions.classes)), reference)


def compare_runs(later: OtherRun, first: OtherRun) -> Comparison:
    """Put two runs that have ended side by side; the first one is `there`. Raises InputError as `compare` does."""
    here = later.table.assign(label=pd.to_numeric(later.table["label"]).astype("Int64"))
    model = later.record.model
    return _beside(here, later.image_set or first.image_set, range(model.classes) if model else (), first)


def _beside(here: pd.DataFrame, set_name: str, answers: Sequence[int], reference: OtherRun) -> Comparison:
    """here: as Predictions.table, with `also`. answers: the classes that could be answered here."""
    sets = {set_name, reference.image_set or set_name}
    if len(sets) > 1 and sets & RULES.keys():  # folders of the model's own classes may be called anything
        raise InputError(
            f"{reference.path} is a run over {reference.image_set} and this one is over {set_name}, which have other "
            "labels or answers: compare with a run of the same image_set."
        )
    absent = here[~here["id"].isin(reference.table["id"])]
    if len(absent):
        raise InputError(
            f"{reference.path} lacks {len(absent)} of the {len(here)} images of this run (the first is {absent['id'].iloc[0]}): "
            "compare with a run over the same images, limit and seed."
        )
    if not reference.table["class1"].dropna().isin(answers).all():
        raise InputError(
            f"{reference.path} answers with classes that cannot be answered here: compare with a run of the same model and image set."
        )
    here = here.drop(columns=[name for name in NOT_COMPARED if name in here])
    joined = here.merge(reference.table, on="id", how="left", suffixes=("", "_there"), validate="one_to_one")
    other = joined[_labelled_otherwise(joined)]
    if len(other):
        raise InputError(
            f"{reference.path} gives {len(other)} of the {len(here)} images another label (the first is {other['id'].iloc[0]}): "
            "compare with a run that used the same labels."
        )
    return Comparison(joined.drop(columns=[name for name in CHECKED if name in joined]))
