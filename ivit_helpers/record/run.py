"""A run: its folder, its record in the making, and its conclusion."""

import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from ivit_helpers.errors import InputError
from ivit_helpers.record.folder import RunFolder
from ivit_helpers.record.parameters import (
    AccuracyParameters,
    AnyParameters,
    BenchmarkParameters,
    CompareParameters,
    ExploreParameters,
    SmokeParameters,
    notebook_of,
)
from ivit_helpers.record.provenance import provenance
from ivit_helpers.record.record import (
    KINDS,
    SYMBOLS,
    AccuracyRecord,
    AnyRecord,
    BenchmarkRecord,
    CompareRecord,
    ExploreRecord,
    SmokeRecord,
    read,
    write,
    write_whole,
)
from ivit_helpers.record.rows import Check
from ivit_helpers.record.session import watch

if TYPE_CHECKING:
    import pandas as pd


RUN_ID = "IVIT_RUN_ID"
"""Set for kernels of `ivit run`: the id of the run, whose folder that command has locked and whose end it judges"""


R = TypeVar("R", SmokeRecord, BenchmarkRecord, AccuracyRecord, ExploreRecord, CompareRecord)


class Run(Generic[R]):
    """A record in the making. It is on the disk from the first moment and after every step, so a killed run leaves what it had."""

    def __init__(self, record: R, folder: Path, locked: RunFolder | None = None, first_cell: int | None = None) -> None:
        self.first_cell = first_cell
        """The number of the cell that began it, in IPython"""
        self.folder = folder
        self.record: R = record
        self._locked = locked
        self._until_concluded: list[Path] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        self._began = time.perf_counter()
        self.save()

    @property
    def path(self) -> Path:
        return self.folder / f"{self.record.notebook}.json"

    def save(self) -> None:
        """Bring the record on the disk up to date. Raises InputError where another run has used the folder since this one ended."""
        self._keep_the_folder()
        self.record.seconds = round(time.perf_counter() - self._began, 3)
        write(self.record, self.path)

    def _keep_the_folder(self) -> None:
        """A cell that runs again after the conclusion writes only where no other run has been."""
        if (
            self._locked
            and self._locked.reopen()
            and not (self.path.is_file() and read(self.path).id == self.record.id)
        ):
            self._locked.close()
            raise InputError(
                f"Another run has used {self.folder} since this one ended: run the cells again from the set-up cell on."
            )

    def note(self, **parts: Any) -> None:
        """Set parts of the record, for example `run.note(rows=rows)`."""
        for name, value in parts.items():
            setattr(self.record, name, value)
        self.save()

    def extend_row(self, **parts: Any) -> None:
        """Set fields of the one row of a record that has one, as in smoke and accuracy."""
        row = self.record.rows[0]
        self.note(rows=[type(row).model_validate(row.model_dump() | parts)])

    def caveat(self, sentence: str) -> None:
        """Add what a reader must know before believing the headline, once."""
        self.note(caveats=list(dict.fromkeys([*self.record.caveats, sentence])))

    def check(self, name: str, passed: bool | None, detail: str, *, deciding: bool = False) -> Check:
        """Add one check; None for one that could not be made. A later check of the same name replaces the earlier one.

        deciding: the notebook's own question is judged by it; where it cannot be made, the run has not passed.
        """
        status = "skipped" if passed is None else "passed" if passed else "failed"
        check = Check(name=name, status=status, detail=detail, deciding=deciding)
        self.note(checks=[*(old for old in self.record.checks if old.name != name), check])
        return check

    def table(self, name: str, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Keep a table beside the record, as <notebook>_<name>.csv with the run's id in a column; returns it, to be shown."""
        self.long_table(name, [frame])
        return frame

    def long_table(self, name: str, pieces: "Iterable[pd.DataFrame]") -> None:
        """Keep a table that comes in pieces, one at least, which have the same columns."""
        self._keep_the_folder()
        file, digest = f"{self.record.notebook}_{name}.csv", hashlib.sha256()

        def lines() -> Iterator[bytes]:
            for number, piece in enumerate(pieces):
                text = (
                    piece.assign(run=self.record.id)
                    .to_csv(index=False, header=not number)
                    .encode("utf-8", "backslashreplace")
                )
                digest.update(text)
                yield text

        write_whole(self.folder / file, lines())
        self._name(file, digest.hexdigest())

    def keep_until_concluded(self, paths: Iterable[Path]) -> None:
        """Delete these files when the run has reached its conclusion; until then the next run in this folder may go on with them."""
        self._until_concluded += paths

    def file(self, name: str, content: bytes) -> None:
        """Keep another file beside the record, as <notebook>_<name>."""
        self._keep_the_folder()
        write_whole(self.folder / f"{self.record.notebook}_{name}", content)
        self._name(f"{self.record.notebook}_{name}", hashlib.sha256(content).hexdigest())

    def _name(self, file: str, digest: str) -> None:
        self.note(tables=self.record.tables | {file: digest})

    def finish(self, headline: str) -> "Conclusion":
        """Draw the conclusion; the status follows from the checks."""
        self.note(headline=headline, concluded=True, resume="")
        for path in self._until_concluded:
            path.unlink(missing_ok=True)
        return Conclusion(self.record.model_copy(update={"batch": False}))  # this cell runs: the end is reached

    def close(self) -> None:
        """Let other runs use the folder."""
        if self._locked:
            self._locked.close()


class Conclusion:
    """Verdict and check table, as a notebook shows them."""

    def __init__(self, record: AnyRecord) -> None:
        self.record = record

    @property
    def checks(self) -> list[Check]:
        """What did not pass first, then what could not be judged, then the rest."""
        order = {"failed": 0, "skipped": 1, "passed": 2}
        return sorted(self.record.checks, key=lambda check: (order[check.status], not check.deciding))

    def __repr__(self) -> str:
        lines = [f"{SYMBOLS[check.status]} {check.name}: {check.detail}" for check in self.checks]
        return "\n".join([self.record.verdict, *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr class="{check.status}"><td>{SYMBOLS[check.status]}&nbsp;{check.status}</td>'
            f"<th scope='row'>{escape(check.name)}</th><td>{escape(check.detail)}</td></tr>"
            for check in self.checks
        )
        return (
            f'<p class="verdict {self.record.status}"><strong>{SYMBOLS[self.record.status]} {escape(self.record.ending)}</strong>'
            f" {escape(' '.join(self.record.caveats))}</p>"
            f'<table class="checks"><caption>Checks</caption><tbody>{rows}</tbody></table>'
        )


@overload
def start(asked: SmokeParameters) -> Run[SmokeRecord]: ...
@overload
def start(asked: BenchmarkParameters) -> Run[BenchmarkRecord]: ...
@overload
def start(asked: AccuracyParameters) -> Run[AccuracyRecord]: ...
@overload
def start(asked: ExploreParameters) -> Run[ExploreRecord]: ...
@overload
def start(asked: CompareParameters) -> Run[CompareRecord]: ...
def start(asked: AnyParameters) -> Any:
    """Begin a run of the notebook that takes these parameters. Raises InputError where its folder cannot be used."""
    batch = os.environ.get(RUN_ID)
    locked = None if batch else RunFolder(asked)
    if locked and locked.set_aside:
        print(f"What an earlier run left in {locked.path} is now in {locked.set_aside}.")
    record = new_record(notebook_of(type(asked)), asked.model_dump(), batch or new_id())
    record.batch = bool(batch)
    record.provenance = provenance(asked)
    return Run(record, locked.path if locked else Path(asked.out), locked, watch(asked))


def new_id() -> str:
    """An id that no other run has."""
    return secrets.token_hex(8)


def new_record(notebook: str, given: Mapping[str, Any], run_id: str) -> AnyRecord:
    """An empty record that begins now."""
    return KINDS[notebook](
        id=run_id, started=datetime.now(timezone.utc).isoformat(timespec="seconds"), parameters=dict(given)
    )
