"""Which of torchrun's processes this one is."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A process among those that torchrun started, on this machine and on others."""

    rank: int
    """From 0 on over all machines; 0 is the one that writes the report"""
    processes: int
    """Of all machines"""
    local_rank: int
    """From 0 on over this machine: the number of its card, where torchrun was started by hand"""
    local_processes: int
    """Of this machine"""


def place() -> Place | None:
    """From the variables that torchrun sets; None where this process is alone."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    values = [os.environ.get(name, "") for name in names]
    if not all(value.isdecimal() for value in values):
        return None
    found = Place(*map(int, values))
    return found if found.processes > 1 else None
