"""The JSON record that a run leaves: its schema, written whole or not at all, read with validation."""

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from ivit_helpers.errors import InputError
from ivit_helpers.record.rows import AccuracyRow, BenchmarkRow, Check, ModelFacts, SmokeRow, plain

Status = Literal["passed", "failed", "incomplete"]
SYMBOLS = {"passed": "✓", "failed": "✗", "skipped": "–", "incomplete": "✗"}


class Record(BaseModel):
    """Everything one notebook found out. A report can be drawn from it again without the accelerator."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid", protected_namespaces=(), validate_assignment=True)

    schema_: Literal[1] = Field(1, alias="schema")
    status: Status = "incomplete"
    started: str = Field(description="UTC time, ISO 8601")
    seconds: float = Field(0.0, description="from the first cell to the last write")
    headline: str = Field("", description="the key figure, with its unit and the count it rests on")
    caveats: list[str] = Field([], description="what a reader must know before believing the headline; part of the verdict")
    parameters: dict[str, Any] = Field({}, description="as the notebook was given them, with defaults")
    environment: dict[str, Any] = Field({}, description="machine, device, versions, and variables that change speed or numbers")
    model: ModelFacts | None = None
    checks: list[Check] = []

    @field_validator("environment", mode="before")
    @classmethod
    def _as_json(cls, value: Any) -> Any:
        return plain(value)

    @field_validator("model", mode="before")
    @classmethod
    def _nothing_loaded(cls, value: Any) -> Any:
        return value or None  # earlier records wrote {}

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
    rows: list[SmokeRow] = []


class BenchmarkRecord(Record):
    """The record of benchmark.ipynb."""

    notebook: Literal["benchmark"] = "benchmark"
    rows: list[BenchmarkRow] = []


class AccuracyRecord(Record):
    """The record of accuracy.ipynb."""

    notebook: Literal["accuracy"] = "accuracy"
    rows: list[AccuracyRow] = []


AnyRecord: TypeAlias = SmokeRecord | BenchmarkRecord | AccuracyRecord
KINDS: dict[str, type[AnyRecord]] = {"smoke": SmokeRecord, "benchmark": BenchmarkRecord, "accuracy": AccuracyRecord}
_ANY: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="notebook")])


def json_schema() -> dict[str, Any]:
    """The JSON schema of a record, as it is written."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "InternViT run", **_ANY.json_schema(mode="serialization")}


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


def write(record: AnyRecord, path: Path) -> None:
    """Write a record as JSON."""
    write_whole(path, json.dumps(record.model_dump(mode="json", by_alias=True), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read(path: Path) -> AnyRecord:
    """Read a record; raises InputError when the file is missing, is not JSON or is not a record of this schema."""
    try:
        return _ANY.validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"The record {path} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"{path} is not a record of schema 1: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
