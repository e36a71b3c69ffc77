"""The rows of a comparison's record, with the unit and meaning of every field."""

from typing import Literal

from pydantic import Field

from ivit_helpers.record.rows import Part


class ComparedRun(Part):
    """A run that is compared with others."""

    given: str = Field(description="as it was named: a folder, a record or a page")
    records: dict[str, str] = Field(description="id of the record, by notebook (empty in records of earlier versions)")
    statuses: dict[str, str] = Field(description="how each notebook ended")
    headlines: dict[str, str] = Field(description="the key figure of each notebook")
    started: str = Field(description="UTC time of the first notebook, ISO 8601")
    model: str
    device: str
    dtype: str


class Difference(Part):
    """Something that is not the same in all runs."""

    name: str
    values: list[str | None] = Field(description="of each run, in order; null where a run does not say")


class Unmatched(Part):
    """Something that only one of two compared runs has."""

    run: int = Field(description="which later run, counted from 1 for the first one of all")
    name: str
    where: Literal["first", "later"] = Field(description="the run that has it")
    why: str | None = Field(None, description="what the other run says of it")


class CompareRow(Part):
    """One thing in a later run beside the same thing in the first one."""

    run: int = Field(description="which later run, counted from 1 for the first one of all")
    kind: Literal["speed", "answers", "error", "ending"]
    notebook: str
    name: str = Field(description="the configuration, the image set, the implementation or the notebook")
    unit: str = Field(description="of `first` and `later`")
    first: float | None = Field(description="in the first run")
    later: float | None = Field(description="in the later run")
    change: float | None = Field(
        None, description="speed and error: later over first; answers: later minus first, as a fraction"
    )
    low: float | None = Field(
        None, description="lower end of the 95 % interval of the change; null where there is none"
    )
    high: float | None = Field(None, description="upper end of the 95 % interval")
    p: float | None = Field(None, description="answers, image by image: McNemar's exact p")
    outcome: Literal["better", "worse", "no difference seen", "not judged"]
    detail: str = Field(description="the reason of the outcome, in words")
