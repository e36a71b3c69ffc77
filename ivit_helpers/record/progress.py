"""Progress bars that leave nothing behind: on the standard error stream, or in a notebook as an output that ends empty."""

import io
import os
from typing import Any

from tqdm import tqdm

from ivit_helpers.record.run import RUN_ID


class NotebookOutput(io.StringIO):
    """A stream whose line is one output of a notebook's cell, rewritten in place.

    JupyterLab keeps a coloured box for the standard error stream, empty as it may be; this output is empty when the bar is cleared.
    """

    encoding = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        self._handle: Any = None

    def write(self, text: str) -> int:
        """Show the line that this text leaves, or nothing where it clears the line."""
        from IPython.display import display

        line = text.replace("\r", "").strip()
        if line and self._handle is None:
            self._handle = display({"text/plain": line}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        elif line:
            self._handle.update({"text/plain": line}, raw=True)
        elif self._handle is not None:
            self._handle.update({"text/html": "", "text/plain": ""}, raw=True)
        return len(text)


def stream() -> io.StringIO | None:
    """Where a bar goes: a notebook's output where somebody watches a kernel, None for the standard error stream elsewhere."""
    if RUN_ID in os.environ:  # `ivit run` shows that stream in the terminal
        return None
    try:
        from IPython import get_ipython
    except ModuleNotFoundError:
        return None
    return NotebookOutput() if hasattr(get_ipython(), "kernel") else None


class Progress(tqdm):  # type: ignore[type-arg]
    """A bar that begins to show after a second and is gone when the work is done. Its arguments are tqdm's."""

    def __init__(self, *work: Any, **settings: Any) -> None:
        super().__init__(*work, **{"file": stream(), "leave": False, "delay": 1, **settings})
