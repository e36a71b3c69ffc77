"""The JSON record that a run leaves: its schema, written whole or not at all, read with validation."""

import json
import math
import os
import re
import tempfile
import time
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ivit_helpers.errors import InputError
from ivit_helpers.parameters import NOTEBOOKS, Parameters

Status = Literal["passed", "failed", "incomplete"]
CheckStatus = Literal["passed", "failed", "skipped"]
REPORTS = Path(__file__).resolve().parent.parent / "reports"
SYMBOLS = {"passed": "✓", "failed": "✗", "skipped": "–", "incomplete": "✗"}


class Check(BaseModel):
    """One question with a yes or no answer."""

    name: str
    status: CheckStatus
    detail: str


class Record(BaseModel):
    """Everything one notebook found out. A report can be drawn from it again without the accelerator."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid", protected_namespaces=())

    schema_: Literal[1] = Field(1, alias="schema")
    notebook: str
    status: Status = "incomplete"
    started: str
    seconds: float = 0.0
    headline: str = ""
    """The key figure, with its unit and the count it rests on"""
    caveats: list[str] = []
    """What a reader must know before believing the headline; part of the verdict"""
    parameters: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    model: dict[str, Any] = {}
    checks: list[Check] = []
    rows: list[dict[str, Any]] = []

    @field_validator("rows", "environment", "model", mode="before")
    @classmethod
    def _json_only(cls, value: Any) -> Any:
        return _plain(value)

    @property
    def ending(self) -> str:
        """How it ended and the key figure."""
        count = len([check for check in self.checks if check.status != "skipped"])
        failed = [check.name for check in self.checks if check.status == "failed"]
        ended = {
            "passed": f"Passed: all {count} checks.",
            "failed": f"Failed: {', '.join(failed) or 'no check was made'}.",
            "incomplete": "Did not finish: no conclusion can be drawn from this run.",
        }[self.status]
        return f"{ended} {self.headline}." if self.headline else ended

    @property
    def verdict(self) -> str:
        """One line: how it ended, the key figure, and what limits it."""
        return " ".join([self.ending, *self.caveats])


def _plain(value: Any) -> Any:
    """Numbers that JSON has no word for become null, numpy's and pandas' become Python's."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name, flush it to the disk, and rename it: a reader sees the old file or the new one."""
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def write(record: Record, path: Path) -> None:
    """Write a record as JSON."""
    write_whole(path, json.dumps(record.model_dump(by_alias=True), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read(path: Path) -> Record:
    """Read a record; raises InputError when the file is missing, is no JSON or is no record of this schema."""
    try:
        return Record.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"The record {path} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"{path} is not a record of schema 1: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None


def run_folder(model: str, device: str) -> Path:
    """A new run's folder: reports/<UTC time>-<model>-<device>."""
    words = [datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ"), Path(model).name or model, device]
    return REPORTS / "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", word) for word in words)


class Run:
    """A record in the making. It is on the disk from the first moment and after every step, so a killed run leaves what it had."""

    def __init__(self, notebook: str, parameters: Parameters) -> None:
        self.folder = Path(parameters.out).expanduser() if parameters.out else run_folder(parameters.model, parameters.device)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.record = Record(
            schema=1,
            notebook=notebook,
            started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            parameters=parameters.model_dump(),
        )
        self._began = time.perf_counter()
        self.save()

    @property
    def path(self) -> Path:
        return self.folder / f"{self.record.notebook}.json"

    def save(self) -> None:
        """Bring the record on the disk up to date."""
        self.record.seconds = round(time.perf_counter() - self._began, 3)
        write(Record.model_validate(self.record.model_dump(by_alias=True)), self.path)

    def note(self, **parts: Any) -> None:
        """Set parts of the record, for example `run.note(rows=rows)`."""
        for name, value in parts.items():
            setattr(self.record, name, value)
        self.save()

    def extend_row(self, **parts: Any) -> None:
        """Add to the one row of a record that has one, as in smoke and accuracy."""
        self.note(rows=[{**self.record.rows[0], **parts}])

    def caveat(self, sentence: str) -> None:
        """Add what a reader must know before believing the headline."""
        self.record.caveats.append(sentence)
        self.save()

    def check(self, name: str, passed: bool | None, detail: str) -> Check:
        """Add one check; None for one that could not be made. A later check of the same name replaces the earlier one."""
        status: CheckStatus = "skipped" if passed is None else "passed" if passed else "failed"
        check = Check(name=name, status=status, detail=detail)
        self.record.checks = [*(old for old in self.record.checks if old.name != name), check]
        self.save()
        return check

    def table(self, name: str, frame: pd.DataFrame) -> pd.DataFrame:
        """Keep a table beside the record, as <notebook>_<name>.csv; returns it, to be shown."""
        write_whole(self.folder / f"{self.record.notebook}_{name}.csv", frame.to_csv(index=False))
        return frame

    def finish(self, headline: str) -> "Conclusion":
        """Decide the status from the checks; a run without a single check answered nothing and has failed."""
        answered = [check.status for check in self.record.checks if check.status != "skipped"]
        self.record.headline = headline
        self.record.status = "passed" if answered and "failed" not in answered else "failed"
        self.save()
        return Conclusion(self.record)


class Conclusion:
    """Verdict and check table, as a notebook shows them."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def __repr__(self) -> str:
        lines = [f"{SYMBOLS[check.status]} {check.name}: {check.detail}" for check in self.record.checks]
        return "\n".join([self.record.verdict, *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr class="{check.status}"><td>{SYMBOLS[check.status]}&nbsp;{check.status}</td>'
            f"<th scope='row'>{escape(check.name)}</th><td>{escape(check.detail)}</td></tr>"
            for check in self.record.checks
        )
        return (
            f'<p class="verdict {self.record.status}"><strong>{SYMBOLS[self.record.status]} {escape(self.record.ending)}</strong>'
            f" {escape(' '.join(self.record.caveats))}</p>"
            f'<table class="checks"><caption>Checks</caption><tbody>{rows}</tbody></table>'
        )


def start(notebook: str, parameters: Parameters) -> Run:
    """Begin a run of one of the notebooks."""
    if notebook not in NOTEBOOKS:
        raise InputError(f"There is no notebook {notebook}; there are {', '.join(NOTEBOOKS)}.")
    return Run(notebook, parameters)
