"""Two runs' answers on the same images: how often they agree, and whether rounding explains the rest.

Two accuracies hide most of the difference between two devices: the sampling error at 50,000 images is 0.14 points. The images are the
same in both runs, so the answers are compared image by image. An image has flipped when its first class differs.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from ivit_helpers.accuracy.predictions import BEST, Predictions
from ivit_helpers.accuracy.statistics import hits
from ivit_helpers.errors import InputError, first_line
from ivit_helpers.images import RULES
from ivit_helpers.paths import printable
from ivit_helpers.record import AccuracyRecord, read

NOTEBOOK, TABLE = "accuracy", "accuracy_predictions.csv"
TEXTS, NUMBERS = ("id", "label", "outcome", "pixels"), ("class1", "score1", "margin")
NEAR_TIE = 0.01
"""Logits: two classes whose odds differ by 1 % are a tie on any device"""
TYPICAL_CHANGES = 10
"""A flip is explained while both margins are within this many median changes of the margin. For normally distributed rounding that
is 6.7 standard deviations, and still 3.4 on images that round twice as coarsely as the median one."""
SHARE_OF_MARGIN = 0.5
"""... and never above this share of the median margin, so that a fault that moves every answer is not taken for rounding. The
median change of bfloat16 against float32 on the embedded miniature is 0.013 of the median margin, of a random one 0.033."""


@dataclass(frozen=True)
class OtherRun:
    """Another run's predictions."""

    path: Path
    table: pd.DataFrame
    """As Predictions.table, always with `also`, mostly with `set`; id, label, also, outcome and pixels are texts"""
    record: AccuracyRecord
    """Of the run, which finished and wrote this very table"""

    @property
    def image_set(self) -> str:
        """Its image set, which says how it was labelled and which classes could be answered; empty where that is not known."""
        return str(self.table["set"].iloc[0]) if len(self.table) and "set" in self.table else ""

    def __str__(self) -> str:
        model = self.record.model
        dtype = model.dtype if model else "unknown dtype"
        return f"{self.record.model_name} in {dtype} on {self.record.device_name}, {self.record.started}"


def find_predictions(reference: str) -> Path:
    """The predictions CSV that the `reference` parameter names; raises InputError when it is not there."""
    try:
        given = Path(reference).expanduser()
        path = given / TABLE if given.is_dir() else given
        found = path.is_file()
    except (OSError, RuntimeError, ValueError):  # too long a name, an unknown user's home, a loop of links
        path, found = Path(reference), False
    if not found:
        raise InputError(
            f"reference={printable(reference)!r}: there is no file {printable(str(path))}; give the folder of another accuracy run, or "
            f"its {TABLE}."
        )
    return path


def _record_of(path: Path, content: bytes) -> AccuracyRecord:
    """The record of the finished run that wrote a table of predictions. Raises InputError where there is none."""
    advice = f"give the folder of an accuracy run that finished, with its {NOTEBOOK}.json and {TABLE} as it left them"
    record = read(path.with_name(f"{NOTEBOOK}.json"))
    if not isinstance(record, AccuracyRecord) or record.status == "incomplete":
        raise InputError(f"The run of {path} did not finish ({record.reason}): {advice}.")
    if record.tables.get(path.name) != hashlib.sha256(content).hexdigest():
        raise InputError(f"{path} is not the table that the run of the record beside it wrote, by its SHA-256: {advice}.")
    return record


def read_reference(reference: str, own_id: str = "") -> OtherRun:
    """The finished run that the `reference` parameter names. own_id: of the run that compares, which must be another one.

    Raises InputError where there is no such run, or where its table is not the one that it wrote.
    """
    path = find_predictions(reference)
    table = read_predictions(path)
    record = _record_of(path, path.read_bytes())
    if record.id == own_id:
        raise InputError(f"reference={reference!r} is this very run: give the folder of another accuracy run.")
    return OtherRun(path, table, record)


def _problem(table: pd.DataFrame) -> str:
    """Why a CSV is not a table of predictions, in words; empty when it is one."""
    lacking = [name for name in (*TEXTS, *NUMBERS) if name not in table]
    if lacking:
        return f"it lacks {', '.join(lacking)}"
    twice = table["id"][table["id"].duplicated()]
    if len(twice):
        return f"{twice.iloc[0]} is in it twice"
    answered = table[table["class1"] != ""]
    numbers = answered[list(NUMBERS)].apply(pd.to_numeric, errors="coerce")
    return "" if np.isfinite(numbers.to_numpy(float)).all() else "an answer's class, score or margin is not a number"


def read_predictions(path: Path) -> pd.DataFrame:
    """A table of predictions, as in OtherRun; raises InputError when the file is no such table."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        problem = _problem(table)
    except (OSError, ValueError) as error:
        problem = first_line(error)
    if problem:
        raise InputError(f"{path} is not a table of predictions ({problem}): give the folder of another accuracy run.")
    table["also"] = table.get("also", "")
    numbers = [name for name in table if name.startswith(("class", "score", "margin"))]
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce")
    return table


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
        return found.assign(surest=found[["margin", "margin_there"]].max(axis=1)).sort_values("surest", ascending=False, kind="stable")

    @property
    def near_tie(self) -> float:
        """The largest margin, in logits, at which rounding explains a flip."""
        agreeing = self.answered[~self.answered["flipped"]]
        usual = [TYPICAL_CHANGES * agreeing["change"].median(), SHARE_OF_MARGIN * self.answered["margin_there"].median()]
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


def _right(joined: pd.DataFrame, side: str) -> pd.Series:
    """All right classes of each image as one text."""
    first, others = (joined[f"{name}{side}"].astype("string").fillna("") for name in ("label", "also"))
    return first + " " + others


def compare(predictions: Predictions, reference: OtherRun) -> Comparison:
    """Put this run beside another. Raises InputError unless the reference has every image of this run, with the same label."""
    here = predictions.table if "also" in predictions.table else predictions.table.assign(also="")
    return _beside(here, predictions.set_name, predictions.answers or range(len(predictions.classes)), reference)


def predictions_of(record: AccuracyRecord, folder: Path) -> OtherRun | None:
    """The predictions of a run, where the table that it wrote, by its SHA-256, is in `folder`; else None."""
    path = folder / TABLE
    if not path.is_file() or record.tables.get(TABLE) != hashlib.sha256(path.read_bytes()).hexdigest():
        return None
    return OtherRun(path, read_predictions(path), record)


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
    joined = here.merge(reference.table, on="id", how="left", suffixes=("", "_there"), validate="one_to_one")
    other = joined[_right(joined, "") != _right(joined, "_there")]
    if len(other):
        raise InputError(
            f"{reference.path} gives {len(other)} of the {len(here)} images another label (the first is {other['id'].iloc[0]}): "
            "compare with a run that used the same labels."
        )
    return Comparison(joined)
