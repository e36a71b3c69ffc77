"""Ctrl-C, SIGTERM and SIGHUP end a batch: the kernel at once, then the page of what there was, then the command."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from ivit_helpers.errors import Stopped

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


@dataclass
class Stop:
    """Whether a signal has asked for the end."""

    signal: int | None = None

    @property
    def reason(self) -> str:
        """In words; empty while nobody has asked."""
        return "" if self.signal is None else f"stopped by {NAMES[signal.Signals(self.signal)]}"


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Within this block a signal kills the kernel that this process has started, and is kept in the Stop that is given.

    Not by an exception: one that is raised while an event loop runs a callback or while garbage is collected is lost. Only a second
    signal raises Stopped.
    """
    stop = Stop()

    def end(number: int, _frame: object) -> None:
        if stop.signal is not None:
            raise Stopped(stop.reason)
        stop.signal = number
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.kill()

    before = {number: signal.signal(number, end) for number in NAMES}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
