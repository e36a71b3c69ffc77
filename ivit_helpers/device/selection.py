"""Which devices there are, and how the `device` parameter chooses one. Importing this module does not import torch."""

import pkgutil
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from ivit_helpers.errors import InputError

if TYPE_CHECKING:
    from ivit_helpers.device.device import Device

AUTO, HOST = "auto", "cpu"
DEVICES = {
    "npu": "ivit_helpers.device.npu:NPU",
    "cuda": "ivit_helpers.device.cuda:CUDA",
    "cpu": "ivit_helpers.device.cpu:CPU",
}
"""The class of each device by the name that users give, in the order in which "auto" tries them"""
ENTRY_POINTS = "ivit_helpers.devices"
"""Other packages add devices by entry points of this group, with a name and a class as in the table above"""


def _classes() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)} | DEVICES


def may_be_wanted(wanted: str) -> bool:
    """Whether `wanted` names a kind of device that there is: "auto", "cpu", or another name with or without an index."""
    name, colon, index = wanted.partition(":")
    if not colon:
        return wanted == AUTO or name in _classes()
    return name in _classes() and name != HOST and index.isascii() and index.isdecimal()


def is_known(kind: str) -> bool:
    """Whether there is a kind of device of this name."""
    return kind in _classes()


def _class(name: str) -> "type[Device]":
    found: type[Device] = pkgutil.resolve_name(_classes()[name])
    return found


def kind_named(name: str) -> "type[Device] | None":
    """The class of a kind of device, without opening one; None for a kind that is not known here."""
    return _class(name) if name in _classes() else None


def select(wanted: str, devices: str = "") -> "Device":
    """The device that the `device` parameter names: "auto" (npu, then cuda, then cpu), or a name with or without an index, as "npu:1".

    devices: the parameter of that name; the first of its cards is selected. Raises InputError, with the next step, when one is not there.
    """
    if devices:
        from ivit_helpers.device.several import named_devices

        wanted = named_devices(devices, wanted)[0]
    if wanted == AUTO:
        return _first_present()
    if not may_be_wanted(wanted):
        raise InputError(f"device={wanted!r} is not known: it may be {', '.join([AUTO, *_classes()])}.")
    name, _, index = wanted.partition(":")
    chosen = _class(name)
    reason = chosen.why_absent()
    if reason:
        raise InputError(f"device={wanted!r} cannot be used: {reason}")
    return chosen.open(int(index or 0))


def _first_present() -> "Device":
    passed_over: list[str] = []
    for name in DEVICES:
        candidate = _class(name)
        reason = candidate.why_absent()
        if not reason:
            return candidate.open(0, " ".join(passed_over))
        if (
            candidate.is_installed()
        ):  # software that is not installed is normal; a device that should work and does not is worth a note
            passed_over.append(reason)
    raise AssertionError("the CPU is always present")


def batch_environment() -> dict[str, str]:
    """Environment variables for the Jupyter kernel that `ivit run` starts, unless the user has set them."""
    return {name: value for device in _classes() for name, value in _class(device).batch_environment.items()}


def may_start_a_driver(wanted: str, devices: str = "") -> bool:
    """Whether `select` may start an accelerator's driver, which then holds memory of the card until the process ends."""
    if devices:
        from ivit_helpers.device.several import agreed

        wanted = agreed(devices, wanted).kind or AUTO
    named = wanted.partition(":")[0]
    tried = DEVICES if wanted == AUTO else [named]
    return any(not _class(name).uses_host_memory and (wanted != AUTO or _class(name).is_installed()) for name in tried)
