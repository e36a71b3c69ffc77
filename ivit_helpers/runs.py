"""A run that someone names, by its folder, its record or its page -> its records."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ivit_helpers.errors import InputError
from ivit_helpers.record.parameters import MODEL_NOTEBOOKS
from ivit_helpers.record.record import CompareRecord, ModelRecord, read
from ivit_helpers.report.page import record_in

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
    """The records of a folder, of one record, or of the record in a page. Raises InputError where there is none."""
    path = Path(given).expanduser()
    if not given or not path.exists():
        raise InputError(f"There is no run {given!r}: {ADVICE}.")
    files = [path / f"{name}.json" for name in MODEL_NOTEBOOKS] if path.is_dir() else [path]
    records: dict[str, ModelRecord] = {}
    for file in files:
        if file.exists():
            record = record_in(file) if file.suffix.lower() in {".html", ".htm"} else read(file)
            if isinstance(record, CompareRecord):
                raise InputError(f"{given!r} is itself a comparison: {ADVICE} of a notebook that runs the model.")
            records[record.notebook] = record
    if not records:
        raise InputError(f"The folder {given} has no record of {', '.join(MODEL_NOTEBOOKS)}: {ADVICE}.")
    return NamedRun(given, path if path.is_dir() else path.parent, records)
