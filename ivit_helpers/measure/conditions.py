"""What else runs on the machine while something is timed: a busy machine makes every figure a guess."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from ivit_helpers.device.device import Device
from ivit_helpers.record.rows import Conditions

QUIET = 0.10
"""Share of all cores' time that others may take while a CPU is timed"""


class Watch:
    """Filled when the watched block ends."""

    conditions: Conditions

    @property
    def is_quiet(self) -> bool:
        return self.conditions.others_cpu_share <= QUIET

    def __str__(self) -> str:
        load = (
            f", load average {self.conditions.load_before:.1f} before and {self.conditions.load_after:.1f} after"
            if _load()
            else ""
        )
        cards = self.conditions.card_processes_before, self.conditions.card_processes_after
        others = sorted({name for listed in cards for name in listed or ()})
        on_card = f"; on the card: {', '.join(others)}" if others else ""
        return f"other processes took {self.conditions.others_cpu_share:.0%} of all cores' time{load}{on_card}"


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def busy_seconds() -> float:
    """Seconds that all cores together have worked, or were taken by the hypervisor, since the machine started."""
    times = psutil.cpu_times()._asdict()
    counted_twice = times.get("guest", 0.0) + times.get("guest_nice", 0.0)  # Linux has these in user and nice as well
    return float(sum(times.values()) - times["idle"] - times.get("iowait", 0.0) - counted_twice)


def own_seconds() -> float:
    """Seconds that this process and those it started have worked."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


@contextmanager
def watched(device: Device) -> Iterator[Watch]:
    """Record what others do on this machine and on the card during the block."""
    watch = Watch()
    load, cards, began, busy, own = (
        _load(),
        device.other_processes(),
        time.perf_counter(),
        busy_seconds(),
        own_seconds(),
    )
    yield watch
    elapsed = max(time.perf_counter() - began, 1e-9)
    others = (busy_seconds() - busy) - (own_seconds() - own)
    watch.conditions = Conditions(
        load_before=load,
        load_after=_load(),
        others_cpu_share=min(1.0, max(0.0, others / (elapsed * (os.cpu_count() or 1)))),
        card_processes_before=cards,
        card_processes_after=device.other_processes(),
    )
