"""Another run's predictions: found, checked against its record, and read in pieces."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ivit_helpers.accuracy.columns import PIECE
from ivit_helpers.errors import InputError, first_line
from ivit_helpers.paths import printable
from ivit_helpers.record.record import AccuracyRecord, read

NOTEBOOK, TABLE = "accuracy", "accuracy_predictions.csv"
TEXTS, NUMBERS = ("id", "label", "outcome", "pixels"), ("class1", "score1", "margin")
NOT_COMPARED = {"path", "reason", "orientation", "cmyk", "run"}


@dataclass(frozen=True)
class OtherRun:
    """Another run's predictions."""

    path: Path
    table: pd.DataFrame
    """As Predictions.table behind the image's id, without what is not compared, always with `also`, mostly with `set`; id, label, also,
    outcome and pixels are texts"""
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


def _record_of(path: Path) -> AccuracyRecord:
    """The record of the finished run that wrote a table of predictions. Raises InputError where there is none."""
    advice = f"give the folder of an accuracy run that finished, with its {NOTEBOOK}.json and {TABLE} as it left them"
    record = read(path.with_name(f"{NOTEBOOK}.json"))
    if not isinstance(record, AccuracyRecord) or record.status == "incomplete":
        raise InputError(f"The run of {path} did not finish ({record.reason}): {advice}.")
    if record.tables.get(path.name) != _digest(path):
        raise InputError(
            f"{path} is not the table that the run of the record beside it wrote, by its SHA-256: {advice}."
        )
    return record


def read_reference(reference: str, own_id: str = "") -> OtherRun:
    """The finished run that the `reference` parameter names. own_id: of the run that compares, which must be another one.

    Raises InputError where there is no such run, or where its table is not the one that it wrote.
    """
    path = find_predictions(reference)
    table = read_predictions(path)
    record = _record_of(path)
    if record.id == own_id:
        raise InputError(f"reference={reference!r} is this very run: give the folder of another accuracy run.")
    return OtherRun(path, table, record)


def _digest(path: Path) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _lacking(columns: pd.Index) -> str:
    """Which columns of a table of predictions are not there, in words; empty where all are."""
    lacking = [name for name in (*TEXTS, *NUMBERS) if name not in columns]
    return f"it lacks {', '.join(lacking)}" if lacking else ""


def _typed(piece: pd.DataFrame) -> pd.DataFrame:
    """A piece with numbers as numbers, and each text that comes again and again once. Raises ValueError where it has other words."""
    if problem := _lacking(piece.columns):
        raise ValueError(problem)
    piece["also"] = piece.get("also", "")
    for name in {"label", "also", "outcome", "set"} & set(piece):
        piece[name] = pd.Series([sys.intern(text) for text in piece[name]], piece.index, dtype=object)
    answered = piece["class1"] != ""
    numbers = [name for name in piece if name.startswith(("class", "score", "margin"))]
    piece[numbers] = piece[numbers].apply(pd.to_numeric, errors="coerce")
    if not np.isfinite(piece.loc[answered, list(NUMBERS)].to_numpy(float)).all():
        raise ValueError("an answer's class, score or margin is not a number")
    return piece


def read_predictions(path: Path) -> pd.DataFrame:
    """A table of predictions, as in OtherRun; raises InputError when the file is no such table."""
    try:
        with pd.read_csv(
            path, dtype=str, keep_default_na=False, chunksize=PIECE, usecols=lambda name: name not in NOT_COMPARED
        ) as pieces:
            table = pd.concat(map(_typed, pieces), ignore_index=True)
        twice = table["id"][table["id"].duplicated()]
        problem = f"{twice.iloc[0]} is in it twice" if len(twice) else ""
    except (OSError, ValueError) as error:
        problem = first_line(error)
    if problem:
        raise InputError(f"{path} is not a table of predictions ({problem}): give the folder of another accuracy run.")
    return table


def predictions_of(record: AccuracyRecord, folder: Path) -> OtherRun | None:
    """The predictions of a run, where the table that it wrote, by its SHA-256, is in `folder`; else None."""
    path = folder / TABLE
    if not path.is_file() or record.tables.get(TABLE) != _digest(path):
        return None
    return OtherRun(path, read_predictions(path), record)
