"""Progress bars where there is no terminal: a line now and then in place of one that is rewritten."""

import time
from typing import TextIO

EVERY_SECONDS = 10.0


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
            self.stream.write(text)
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
            self.stream.write(line + "\n")
            self._written = time.monotonic()

    def flush(self) -> None:
        self.stream.flush()


def last_state(line: str) -> str:
    """What a terminal would show of a line that was rewritten."""
    return line.rstrip("\r").rsplit("\r", 1)[-1].rstrip()
