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

CLOCK = (
    "host clock (time.perf_counter) between two synchronisations of the device; every timed call is a sample, and "
    "samples come in windows"
)


def _commit() -> str | None:
    """The commit of the kit's own checkout, marked where files were changed; None outside of one."""
    if not (NOTEBOOKS.parent / ".git").exists():
        return None
    git = ["git", "-C", str(NOTEBOOKS.parent)]
    commit, changes = (
        subprocess.run([*git, *words], capture_output=True, text=True, timeout=10, check=False).stdout.strip()
        for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    )
    return f"{commit}+changes" if changes else commit or None


def code_digest(sources: Sequence[str]) -> str:
    """SHA-256 of the code cells' sources, so that outputs and layout do not count."""
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def command(parameters: AnyParameters, out: Path | None = None) -> str:
    """The command that runs a notebook again, into a folder of its own or into `out`. Defaults are left out."""
    notebook = notebook_of(type(parameters))
    if isinstance(parameters, CompareParameters):
        return shlex.join(["ivit", notebook, *parameters.runs])
    words = ["ivit", "run", notebook]
    for name, value in parameters.model_dump(exclude_defaults=True, exclude={"out"}).items():
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        words += ["-p", f"{name}={text}"]
    return shlex.join([*words, "--out", str(out)] if out else words)


def kit() -> str:
    """The version of this kit."""
    return metadata.version("ivit-helpers")


def provenance(parameters: AnyParameters) -> Provenance:
    """Of a run that begins now."""
    notebook = NOTEBOOKS / f"{notebook_of(type(parameters))}.ipynb"
    cells = json.loads(notebook.read_text("utf-8"))["cells"] if notebook.exists() else []
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return Provenance(
        kit=kit(),
        commit=_commit(),
        command=command(parameters),
        notebook_sha256=code_digest(sources) if sources else None,
        clock=CLOCK,
    )
