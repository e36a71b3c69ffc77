"""The JSON record that a run leaves: its schema, written whole or not at all, read with validation."""

import json
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    computed_field,
    field_validator,
    model_validator,
)

from ivit_helpers.errors import InputError
from ivit_helpers.record import rows as kinds

Status = Literal["passed", "not_judged", "failed", "incomplete"]
SYMBOLS = {"passed": "✓", "not_judged": "?", "failed": "✗", "skipped": "–", "incomplete": "✗"}
RAN_TO_ITS_END = "notebook ran to its end"
LARGEST = 64 * 2**20
"""Bytes of a record. 100,000 timed calls of 50 configurations would take about as much; a usual record has 100 kB."""


class Record(BaseModel):
    """Everything one notebook found out. A report can be drawn from it again without the accelerator."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid", protected_namespaces=(), validate_assignment=True)

    schema_: Literal[2] = Field(2, alias="schema")
    id: str = Field("", description="of this run alone; its tables and its page have it too")
    batch: bool = Field(False, description="whether `ivit run` executed it, and judges whether it ran to its end")
    tables: dict[str, str] = Field({}, description="SHA-256 of each table or other file beside the record, by its name")
    concluded: bool = Field(False, description="whether the notebook reached its conclusion")
    started: str = Field(description="UTC time, ISO 8601")
    seconds: float = Field(0.0, description="from the first cell to the last write")
    resume: str = Field("", description="the command that goes on with an unfinished run; empty: it would begin again")
    headline: str = Field("", description="the key figure, with its unit and the count it rests on")
    caveats: list[str] = Field([], description="what a reader must know before believing the headline")
    parameters: dict[str, Any] = Field({}, description="as the notebook was given them, with defaults")
    provenance: kinds.Provenance | None = None
    environment: dict[str, Any] = Field({}, description="machine, device, versions, variables that change speed")
    model: kinds.ModelFacts | None = None
    checks: list[kinds.Check] = []

    @model_validator(mode="before")
    @classmethod
    def _without_status(cls, value: Any) -> Any:
        """The status follows from the checks alone, whatever a file says."""
        return {name: item for name, item in value.items() if name != "status"} if isinstance(value, dict) else value

    @field_validator("environment", mode="before")
    @classmethod
    def _as_json(cls, value: Any) -> Any:
        return kinds.plain(value)

    @computed_field(description="by the checks: the verdict of the run")  # type: ignore[prop-decorator]
    @property
    def status(self) -> Status:
        """Passed: every check passed, and the deciding ones were made. Not judged: a deciding check is missing."""
        if not self.concluded or self.judged_end == "failed" or (self.batch and not self.judged_end):
            return "incomplete"
        if self.failed or not any(check.status == "passed" for check in self.checks):
            return "failed"
        deciding = [check.status for check in self.checks if check.deciding]
        return "passed" if deciding and set(deciding) == {"passed"} else "not_judged"

    @property
    def judged_end(self) -> str:
        """Whether the notebook ran to its end, "passed" or "failed"; empty where nobody has judged it."""
        return next((check.status for check in self.checks if check.name == RAN_TO_ITS_END), "")

    @property
    def failed(self) -> list[kinds.Check]:
        """The checks that failed, in order."""
        return [check for check in self.checks if check.status == "failed"]

    @property
    def reason(self) -> str:
        """Why the run did not pass, in words; empty for one that did."""
        if self.status == "passed":
            return ""
        if self.status == "not_judged":
            skipped = [
                check.detail.rstrip(".") for check in self.checks if check.deciding and check.status == "skipped"
            ]
            return "; ".join(skipped) or "the deciding check was not made"
        if self.status == "incomplete":
            unjudged = "the command that ran it ended early" if self.concluded else "it has not reached its conclusion"
            return next((check.detail for check in self.failed if check.name == RAN_TO_ITS_END), unjudged)
        if not self.failed:
            return "no check was made"
        first, *others = self.failed
        also = f"; also failed: {', '.join(check.name for check in others)}" if others else ""
        return f"{first.name}: {first.detail.rstrip('.')}{also}"

    @property
    def ending(self) -> str:
        """How it ended, the reason where it did not pass, and the key figure."""
        count = sum(check.status != "skipped" for check in self.checks)
        words = {"not_judged": "Not judged", "failed": "Failed", "incomplete": "Did not finish"}
        passed = self.status == "passed"
        ended = f"Passed: all {count} checks" if passed else f"{words[self.status]}: {self.reason.rstrip('.')}"
        return f"{ended}. {self.headline}." if self.headline else f"{ended}."

    @property
    def verdict(self) -> str:
        """One line: how it ended, the key figure, and what limits it."""
        return " ".join([self.ending, *self.caveats])

    @property
    def model_name(self) -> str:
        """The model that was loaded, or the `model` parameter where none was."""
        return self.model.name if self.model else str(self.parameters.get("model", ""))

    @property
    def device_name(self) -> str:
        """The device that was used, or the `device` parameter where none was."""
        return str(self.environment.get("device") or self.parameters.get("device", ""))


class SmokeRecord(Record):
    """The record of smoke.ipynb."""

    notebook: Literal["smoke"] = "smoke"
    rows: list[kinds.SmokeRow] = []


class BenchmarkRecord(Record):
    """The record of benchmark.ipynb."""

    notebook: Literal["benchmark"] = "benchmark"
    rows: list[kinds.BenchmarkRow] = []
    conditions: kinds.Conditions | None = None
    limits: kinds.Limits | None = None
    frontier: kinds.Frontier | None = Field(None, description="null unless batch_sizes is auto")
    transfers: list[kinds.Transfer] = Field([], description="empty on a CPU, which copies nothing")
    cards: kinds.CardsAtOnce | None = Field(None, description="null unless several devices were asked for")
    products: list[kinds.TimingRow] = Field([], description="the matrix products alone, timed in turn with the rows")

    @property
    def best(self) -> kinds.BenchmarkRow | None:
        """The fastest row of the first implementation that was measured."""
        return best(self.rows)


def best(rows: Sequence[kinds.BenchmarkRow]) -> kinds.BenchmarkRow | None:
    """The fastest row of the first implementation that was measured."""
    measured = [row for row in rows if row.was_measured]
    first = [row for row in measured if row.implementation == measured[0].implementation]
    return max(first, key=lambda row: row.images_per_s or 0, default=None)


class AccuracyRecord(Record):
    """The record of accuracy.ipynb."""

    notebook: Literal["accuracy"] = "accuracy"
    rows: list[kinds.AccuracyRow] = []
    cards: list[kinds.CardRow] = Field(
        [], description="of this run, one for each process; empty: nothing was left to answer"
    )
    all_cards: kinds.AllCards | None = Field(None, description="their speed as one; null: nothing was left to answer")
    interruptions: list[kinds.Interruption] = Field(
        [], description="earlier runs whose answers this one took up, in order"
    )
    anew: str = Field("", description="why answers of an earlier run were not taken up; empty: there were none")


class ExploreRecord(Record):
    """The record of explore.ipynb."""

    notebook: Literal["explore"] = "explore"
    image: str = Field("", description="name of the image that was looked at")
    image_checksum: str = Field("", description="CRC-32 of its pixels as the network gets them")
    other: str = Field("", description="the other side, in words")
    rows: list[kinds.ExploreRow] = []
    answers: list[kinds.Answer] = Field([], description="the five classes with the highest scores")
    gallery: str = Field("", description="name of the image set that neighbours were looked for in")
    gallery_images: int | None = Field(None, description="images of it that were compared")
    neighbours: list[kinds.Neighbour] = Field([], description="the nearest first; the image itself is left out")


class CompareRecord(Record):
    """The record of compare.ipynb."""

    notebook: Literal["compare"] = "compare"
    runs: list[kinds.ComparedRun] = Field([], description="in the order given; the others are compared with the first")
    differences: list[kinds.Difference] = Field([], description="in machine, versions, model and parameters")
    rows: list[kinds.CompareRow] = []
    unmatched: list[kinds.Unmatched] = Field([], description="what one run has and the other has not")

    @property
    def model_name(self) -> str:
        """The models of the runs."""
        return ", ".join(dict.fromkeys(run.model for run in self.runs))

    @property
    def device_name(self) -> str:
        """The devices of the runs."""
        return ", ".join(dict.fromkeys(run.device for run in self.runs))


ModelRecord: TypeAlias = SmokeRecord | BenchmarkRecord | AccuracyRecord | ExploreRecord
"""Of a notebook that runs the model"""
AnyRecord: TypeAlias = ModelRecord | CompareRecord
ANY_RECORD: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="notebook")])


def json_schema() -> dict[str, Any]:
    """The JSON schema of a record, as it is written."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "title": "InternViT run", **ANY_RECORD.json_schema(mode="serialization")}


def write_whole(path: Path, content: str | bytes | Iterable[bytes]) -> None:
    """Write a file under a temporary name, flush it to the disk, and rename it: a reader sees the old or the new one.

    content: the whole of it, or pieces in order. Raises InputError where it cannot be written, as on a full disk.
    """
    whole = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name[:80]}-{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.writelines([whole] if isinstance(whole, bytes) else whole)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        advice = "free space on its disk, or give another folder"
        raise InputError(f"{path} cannot be written ({error.strerror or error}): {advice}.") from None
    finally:
        temporary.unlink(missing_ok=True)


def write(record: AnyRecord, path: Path) -> None:
    """Write a record as JSON."""
    content = record.model_dump(mode="json", by_alias=True)
    write_whole(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read(path: Path) -> AnyRecord:
    """Read a record; raises InputError when the file is missing, is not JSON or is not a record of this schema."""
    return read_content(content_of(path), str(path))


def content_of(path: Path) -> bytes:
    """The content of a record's file or page; raises InputError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"The record {path} cannot be read: {error.strerror}.") from None


def read_content(content: bytes, name: str) -> AnyRecord:
    """The record that these bytes hold; raises InputError, with this name, when they are not one of this schema."""
    try:
        return ANY_RECORD.validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{name} is not a record of schema 2: {where}: {first['msg']}.") from None
