"""A run: its folder, its record in the making, and its conclusion."""

import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from IPython import get_ipython

from ivit_helpers.errors import InputError, sentence
from ivit_helpers.record.folder import RunFolder
from ivit_helpers.record.parameters import NOTEBOOKS, AnyParameters, Parameters, notebook_of, of_notebook
from ivit_helpers.record.provenance import provenance
from ivit_helpers.record.record import ANY_RECORD, SYMBOLS, AnyRecord, Record, read, write, write_whole
from ivit_helpers.record.rows import Check

if TYPE_CHECKING:
    import pandas as pd

RUN_ID = "IVIT_RUN_ID"
"""Set for kernels of `ivit run`: the id of the run, whose folder that command has locked and whose end it judges"""
R = TypeVar("R", bound=AnyRecord)


class Run(Generic[R]):
    """A record in the making. It is on the disk from the first moment and after every step: a killed run leaves it."""

    def __init__(self, record: R, parameters: Any, folder: RunFolder | None = None) -> None:
        self.record: R = record
        self.parameters = parameters
        self.folder = folder.path if folder else Path(parameters.out)
        self.accelerator: Any = None
        """The device, where a notebook has begun the run"""
        shell = get_ipython()
        self.first_cell: int | None = len(shell.user_ns["In"]) - 1 if shell else None
        """The number of the cell that began it, as in IPython's `In`; None outside IPython"""
        self._folder = folder
        self._closed = False
        self._until_concluded: list[Path] = []
        self._began = time.perf_counter()
        self.save()

    @property
    def path(self) -> Path:
        return self.folder / f"{self.record.notebook}.json"

    def save(self) -> None:
        """Bring the record on the disk up to date. Raises InputError where another run has used the folder since."""
        self._lock()
        self.record.seconds = round(time.perf_counter() - self._began, 3)
        write(self.record, self.path)

    def _lock(self) -> None:
        """After its conclusion a run writes again, from a cell that runs again, only where no other run has been."""
        if self._folder and self._closed:
            self._folder.lock()
            if not self.path.is_file() or read(self.path).id != self.record.id:
                self._folder.close()
                raise InputError(
                    f"Another run has used {self.folder} since: run the cells again from the first one on."
                )
            self._closed = False

    def note(self, **parts: Any) -> None:
        """Set parts of the record, for example `run.note(rows=rows)`."""
        for name, value in parts.items():
            setattr(self.record, name, value)
        self.save()

    def extend_row(self, **parts: Any) -> None:
        """Set fields of the one row of a record that has one, as in smoke and accuracy."""
        row = self.record.rows[0]
        self.note(rows=[type(row).model_validate(row.model_dump() | parts)])

    def caveat(self, text: str) -> None:
        """Add what a reader must know before believing the headline, once."""
        self.note(caveats=list(dict.fromkeys([*self.record.caveats, text])))

    def check(self, name: str, passed: bool | None, detail: str, *, deciding: bool = False) -> Check:
        """Add one check; None for one that could not be made. A later check of the same name replaces the earlier one.

        deciding: it answers the notebook's own question; where it cannot be made, the run has not passed.
        """
        status = "skipped" if passed is None else "passed" if passed else "failed"
        check = Check(name=name, status=status, detail=detail, deciding=deciding)
        self.note(checks=[*(old for old in self.record.checks if old.name != name), check])
        return check

    def table(self, name: str, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Keep a table beside the record, as <notebook>_<name>.csv with the run's id in a column; returns it."""
        self.long_table(name, [frame])
        return frame

    def long_table(self, name: str, pieces: "Iterable[pd.DataFrame]") -> None:
        """Keep a table that comes in pieces, one at least, which have the same columns."""

        def lines() -> Iterator[bytes]:
            for number, piece in enumerate(pieces):
                text = piece.assign(run=self.record.id).to_csv(index=False, header=not number)
                yield text.encode("utf-8", "backslashreplace")

        self._write_beside(f"{name}.csv", lines())

    def file(self, name: str, content: bytes) -> None:
        """Keep another file beside the record, as <notebook>_<name>."""
        self._write_beside(name, [content])

    def _write_beside(self, name: str, pieces: Iterable[bytes]) -> None:
        self._lock()
        file, digest = f"{self.record.notebook}_{name}", hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for piece in pieces:
                digest.update(piece)
                yield piece

        write_whole(self.folder / file, hashed())
        self.note(tables=self.record.tables | {file: digest.hexdigest()})

    def keep_until_concluded(self, paths: Iterable[Path]) -> None:
        """Delete these files at the conclusion; until then the next run in this folder may go on with them."""
        self._until_concluded += paths

    def finish(self, headline: str) -> "Conclusion":
        """Draw the conclusion; the status follows from the checks."""
        self.note(headline=headline, concluded=True, resume="")
        for path in self._until_concluded:
            path.unlink(missing_ok=True)
        return Conclusion(self.record.model_copy(update={"batch": False}))  # this cell runs: the end is reached

    def close(self) -> None:
        """Let other runs use the folder."""
        if self._folder:
            self._folder.close()
            self._closed = True


class Conclusion:
    """Verdict and check table, as a notebook shows them."""

    def __init__(self, record: Any) -> None:
        self.record: Record = record
        order = ["failed", "skipped", "passed"]
        self.checks = sorted(record.checks, key=lambda check: (order.index(check.status), not check.deciding))
        """What did not pass first, then what could not be judged, then the rest"""

    def __repr__(self) -> str:
        lines = [f"{SYMBOLS[check.status]} {check.name}: {check.detail}" for check in self.checks]
        return "\n".join([self.record.verdict, *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr class="{check.status}"><td>{SYMBOLS[check.status]}&nbsp;{check.status}</td>'
            f"<th scope='row'>{escape(check.name)}</th><td>{escape(check.detail)}</td></tr>"
            for check in self.checks
        )
        status = self.record.status
        return (
            f'<p class="verdict {status}"><strong>{SYMBOLS[status]} {escape(self.record.ending)}</strong>'
            f" {escape(' '.join(self.record.caveats))}</p>"
            f'<table class="checks"><caption>Checks</caption><tbody>{rows}</tbody></table>'
        )


def start(parameters: AnyParameters) -> Run[Any]:
    """Begin a run of the notebook that takes these parameters. Raises InputError where its folder cannot be used."""
    batch = os.environ.get(RUN_ID)
    folder = None if batch else RunFolder(parameters)
    if folder and folder.set_aside:
        print(f"What an earlier run left in {folder.path} is now in {folder.set_aside}.")
    record: Any = new_record(notebook_of(type(parameters)), parameters.model_dump(), batch or new_id())
    record.batch = bool(batch)
    record.provenance = provenance(parameters)
    return Run(record, parameters, folder)


def start_notebook(notebook: str, namespace: Mapping[str, Any]) -> Run[Any]:
    """Begin the run of a notebook, with its device: the set-up cell calls this with globals().

    Raises InputError for whatever input, the machine or a library did wrong.
    """
    try:
        run = start(of_notebook(NOTEBOOKS[notebook], namespace))
        if isinstance(run.parameters, Parameters):
            from ivit_helpers.device.environment import describe
            from ivit_helpers.device.selection import select

            run.accelerator = select(run.parameters.device, getattr(run.parameters, "devices", ""))
            run.note(environment=describe(run.accelerator))
    except Exception as error:
        if not (text := sentence(error)):
            raise
        raise InputError(text) from None
    return run


def new_id() -> str:
    """An id that no other run has."""
    return secrets.token_hex(8)


def new_record(notebook: str, given: Mapping[str, Any], run_id: str) -> AnyRecord:
    """An empty record that begins now."""
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return ANY_RECORD.validate_python(
        {"notebook": notebook, "id": run_id, "started": started, "parameters": dict(given)}
    )
