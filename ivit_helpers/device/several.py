"""The `devices` parameter: several cards, or several processes on the CPU, in one word. Importing this module does not import torch.

8               the first eight cards of the first kind that this machine has
npu:0-7         a range of cards, both ends included
cuda:0,1        single cards; ranges and single ones can be mixed, as in npu:0-3,6
cpu:2           two processes that share the CPU
"""

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ivit_helpers.device.selection import AUTO, DEVICES, HOST, is_known, kind_named
from ivit_helpers.errors import InputError

if TYPE_CHECKING:
    from ivit_helpers.device.device import Device

MOST = 1024
"""Processes of one machine: far above the cards of any, so that a slip of the pen starts nothing"""
_INDICES = re.compile(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", re.ASCII)


@dataclass(frozen=True)
class Several:
    """What `devices` asks for."""

    kind: str
    """As `device` spells it; empty for the first kind of card that there is"""
    indices: tuple[int, ...]
    """One for each process: the cards' numbers; from 0 on where only their count was given"""


def read_devices(devices: str) -> Several:
    """Read the parameter. Raises ValueError for what it cannot mean."""
    kind, colon, rest = devices.rpartition(":")
    if not _INDICES.fullmatch(rest) or bool(colon) != bool(kind):
        raise ValueError("neither a count nor KIND:NUMBERS")
    if kind and not is_known(kind):
        raise ValueError("no such kind of device")
    found = _count(rest) if kind in {"", HOST} else _numbers(rest)
    if not 0 < len(found) <= MOST or len(set(found)) < len(found):
        raise ValueError("none, too many, or one of them twice")
    return Several(kind, found)


def _count(text: str) -> tuple[int, ...]:
    if not text.isdecimal():
        raise ValueError("a count is one number")
    return tuple(range(min(int(text), MOST + 1)))


def _numbers(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
        if int(last or first) < int(first):
            raise ValueError("a range that ends before it begins")
    return tuple(found)


def agreed(devices: str, device: str) -> Several:
    """What `devices` asks for beside the `device` parameter. Raises InputError where the two contradict each other; asks no driver."""
    asked = read_devices(devices)
    if device in {AUTO, asked.kind}:
        return asked
    if not asked.kind and ":" not in device and device != HOST:
        return Several(device, asked.indices)
    raise InputError(f"devices={devices!r} and device={device!r} both choose where to run: leave device out.")


def named_devices(devices: str, device: str = AUTO) -> tuple[str, ...]:
    """What each process gives to `select`, in the order of the processes, for example ("npu:0", "npu:1").

    Raises InputError where the two parameters contradict each other, and where this machine lacks a card.
    """
    asked = agreed(devices, device)
    kind = asked.kind or _first_kind(devices)
    chosen = _class_of(kind)
    reason = chosen.why_absent()
    if reason:
        raise InputError(f"devices={devices!r} cannot be used: {reason}")
    if chosen.uses_host_memory:
        return (kind,) * len(asked.indices)
    there = chosen.count()
    missing = [index for index in asked.indices if index >= there]
    if missing:
        names = ", ".join(f"{kind}:{index}" for index in missing[:8])
        raise InputError(
            f"devices={devices!r} asks for {len(asked.indices)} cards, and {names} {'is' if len(missing) == 1 else 'are'} not there: "
            f"this machine has {there}, numbered 0 to {there - 1}."
        )
    return tuple(f"{kind}:{index}" for index in asked.indices)


def device_of(device: str, local_rank: int) -> str:
    """What a process gives to `select` whose torchrun a user has started: the card of its number among the processes of its machine.

    device: the parameter, without a number. Raises InputError where there is no such card.
    """
    if ":" in device:
        raise InputError(
            f"device={device!r} is one card, and torchrun has started several processes: give device={device.partition(':')[0]!r}."
        )
    kind = device if device != AUTO else next(kind for kind in DEVICES if not _class_of(kind).why_absent())
    chosen = _class_of(kind)
    reason = chosen.why_absent()
    if reason:
        raise InputError(f"device={device!r} cannot be used: {reason}")
    if not chosen.uses_host_memory and local_rank >= chosen.count():
        raise InputError(
            f"torchrun has started more processes here than there are cards: this machine has {chosen.count()} of {kind}."
        )
    return kind if chosen.uses_host_memory else f"{kind}:{local_rank}"


def _class_of(kind: str) -> "type[Device]":
    found = kind_named(kind)
    if found is None:
        raise InputError(f"device={kind!r} is not known here.")
    return found


def _first_kind(devices: str) -> str:
    """The first kind of card that this machine has."""
    reasons = []
    for kind in DEVICES:
        chosen = _class_of(kind)
        if chosen.uses_host_memory:
            continue
        reason = chosen.why_absent()
        if not reason:
            return kind
        reasons += [reason] if chosen.is_installed() else []
    raise InputError(
        f"devices={devices!r} needs cards, and this machine has none that answers{f' ({reasons[0]})' if reasons else ''}: "
        f"devices='{HOST}:{devices}' starts as many processes on the CPU."
    )


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
