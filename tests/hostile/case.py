"""One hostile or careless input: how it is made, and what the kit must say of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Ends = Literal["refused", "failed", "not_judged", "passed", "incomplete"]


@dataclass(frozen=True)
class Case:
    """An input that must end in an answer or in a sentence: no traceback, no signal, no hang, and no green that is not earned."""

    name: str
    """What the input is, for a reader"""
    make: Callable[[Path], Mapping[str, Any]]
    """Makes the input in an empty folder; returns the parameters that name it"""
    says: str
    """A regular expression that is found in what the user is told"""
    notebook: str = "accuracy"
    ends: Ends = "refused"
    """"refused": `ivit run` says it in one sentence and exits with 2 before a kernel starts. Else the notebook's cells run, and the
    record has this status."""
    gib: float = 1.0
    """Memory that it may take beyond what Python and its libraries have"""
    seconds: float = 20.0
    """Processor time that it may take"""
