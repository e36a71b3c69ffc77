"""Where a run comes from and how it is repeated: kit, commit, command, notebook, clock."""

import hashlib
import json
import shlex
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from ivit_helpers.paths import NOTEBOOKS
from ivit_helpers.record.parameters import AnyParameters, CompareParameters, notebook_of
from ivit_helpers.record.rows import Provenance

CLOCK = "host clock (time.perf_counter) between two synchronisations of the device; every timed call is a sample, and samples come in windows"


def _git(*words: str) -> str | None:
    """What git prints about the kit's own folder; None outside a git checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(NOTEBOOKS.parent), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _commit() -> str | None:
    top = _git("rev-parse", "--show-toplevel")
    commit = _git("rev-parse", "HEAD")
    if (
        not top or not commit or Path(top).resolve() != NOTEBOOKS.parent
    ):  # the kit may be installed inside another project's checkout
        return None
    return commit + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")


def code_digest(sources: Sequence[str]) -> str:
    """SHA-256 of the code cells' sources, so that outputs and layout do not count."""
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def _notebook_digest(name: str) -> str | None:
    try:
        cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text("utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return None
    return code_digest(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"])


def command(asked: AnyParameters, out: Path | None = None) -> str:
    """The command that runs a notebook again with the same parameters, into a folder of its own or into `out`.

    Parameters that have their default are left out.
    """
    notebook = notebook_of(type(asked))
    if isinstance(asked, CompareParameters):
        return shlex.join(["ivit", notebook, *asked.runs])
    given = asked.model_dump(exclude_defaults=True, exclude={"out"})
    words = [
        f"{name}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
        for name, value in given.items()
    ]
    where = ["--out", str(out)] if out else []
    return shlex.join(["ivit", "run", notebook, *(part for word in words for part in ("-p", word)), *where])


def kit() -> str:
    """The version of this kit."""
    return metadata.version("ivit-helpers")


def provenance(asked: AnyParameters) -> Provenance:
    """Of a run that begins now."""
    return Provenance(
        kit=kit(),
        commit=_commit(),
        command=command(asked),
        notebook_sha256=_notebook_digest(notebook_of(type(asked))),
        clock=CLOCK,
    )
