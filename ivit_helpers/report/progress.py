"""What a run says while it runs: where there is no terminal, a line now and then in place of a progress bar that is rewritten."""

import os
import time
from contextlib import suppress
from typing import TextIO

EVERY_SECONDS = 10.0


def tell(text: str, stream: TextIO) -> None:
    """Write text at once. Where nobody can read it (a closed pipe, a full disk) it is dropped, and so is all that follows.

    What a run says is also in its record and its page, so the run goes on.
    """
    with suppress(OSError):
        try:
            stream.write(text)
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


class ProgressLines:
    """A stream that passes on what a kernel writes: as it is to a terminal, and elsewhere without carriage returns.

    A line that is rewritten (a progress bar) is written at most every ten seconds, in its last state; other lines at once.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._state = ""
        self._written = time.monotonic()

    def write(self, text: str) -> None:
        """Take more text, in pieces of any size."""
        if self.stream.isatty():
            tell(text, self.stream)
            return
        *lines, rest = (self._state + text).split("\n")
        for line in lines:
            self._emit(last_state(line))
        self._state = rest
        if "\r" in rest and time.monotonic() - self._written >= EVERY_SECONDS:
            self._emit(last_state(rest))
            self._state = "\r"

    def _emit(self, line: str) -> None:
        if line:
            tell(line + "\n", self.stream)
            self._written = time.monotonic()

    def flush(self) -> None:
        """Do nothing: every line is flushed when it is written."""


def last_state(line: str) -> str:
    """What a terminal would show of a line that was rewritten."""
    return line.rstrip("\r").rsplit("\r", 1)[-1].rstrip()
