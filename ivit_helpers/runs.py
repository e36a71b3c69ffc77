"""A run that someone names, by its folder, its record or its page -> its records."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ivit_helpers.errors import InputError
from ivit_helpers.paths import printable
from ivit_helpers.record.parameters import MODEL_NOTEBOOKS
from ivit_helpers.record.record import AnyRecord, CompareRecord, ModelRecord, read
from ivit_helpers.report.page import record_in

NAMES = " or ".join([", ".join(list(MODEL_NOTEBOOKS)[:-1]), list(MODEL_NOTEBOOKS)[-1]])
ADVICE = "give a run's folder, its record (.json) or its page (.html)"


@dataclass(frozen=True)
class NamedRun:
    """What one run left, by notebook."""

    given: str
    folder: Path
    """Where its tables are, if they are still beside the record"""
    records: Mapping[str, ModelRecord]
    """At least one"""

    @property
    def first(self) -> ModelRecord:
        """The record of the notebook that ran first."""
        return min(self.records.values(), key=lambda record: record.started)


def read_run(given: str) -> NamedRun:
    """The records of a folder, of one record, or of the record that a page carries. Raises InputError where there is none."""
    path = _path(given)
    if path.is_dir():
        found = [read(path / f"{name}.json") for name in MODEL_NOTEBOOKS if (path / f"{name}.json").is_file()]
        if not found:
            raise InputError(f"The folder {printable(given)} has no record of {NAMES}: {ADVICE}.")
        return NamedRun(given, path, {record.notebook: _of_a_model(record, given) for record in found})
    record = _of_a_model(record_in(path) if path.suffix.lower() in {".html", ".htm"} else read(path), given)
    return NamedRun(given, path.parent, {record.notebook: record})


def _path(given: str) -> Path:
    try:
        path = Path(given).expanduser()
        found = path.exists()
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # too long a name, an unknown user's home, a loop of links, a NUL
        raise InputError(f"{printable(given)!r} is not a path of this machine ({error}): {ADVICE}.") from None
    if not given or not found:
        raise InputError(f"There is no run {printable(given)!r}: {ADVICE}.")
    return path


def _of_a_model(record: AnyRecord, given: str) -> ModelRecord:
    if isinstance(record, CompareRecord):
        raise InputError(f"{printable(given)} is itself a comparison: {ADVICE} of {NAMES}.")
    return record
