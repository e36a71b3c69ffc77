"""One face for every device: choose one, wait for it, ask it for memory, peaks, fused operators and its environment.

The rest of the project never names a device type. A new device is a subclass of `Device` in a file of its own, and one row in
`selection.py` (or in another package, one entry point of the group `ivit_helpers.devices`).
"""

from typing import TYPE_CHECKING, Any

from ivit_helpers.device.selection import batch_environment, kind_named, may_be_wanted, may_start_a_driver, select
from ivit_helpers.device.several import Several, agreed, cores, device_of, named_devices, read_devices

if TYPE_CHECKING:
    from ivit_helpers.device.cpu import host, host_peak, reset_host_peak, return_freed_memory
    from ivit_helpers.device.device import Device, dtype_name, is_out_of_memory, three_launches
    from ivit_helpers.device.environment import describe
    from ivit_helpers.device.graphs import Compiled, Graphed, Prepared, replays

__all__ = [
    "Compiled", "Device", "Graphed", "Prepared", "Several", "agreed", "batch_environment", "cores", "describe", "device_of", "dtype_name",
    "host", "host_peak",
    "is_out_of_memory", "kind_named", "may_be_wanted", "may_start_a_driver", "named_devices", "read_devices", "replays", "reset_host_peak",
    "return_freed_memory", "select", "three_launches",
]  # fmt: skip

_NEEDS_TORCH = {
    "Device": "device", "dtype_name": "device", "is_out_of_memory": "device", "three_launches": "device", "describe": "environment",
    "host": "cpu", "host_peak": "cpu", "reset_host_peak": "cpu", "return_freed_memory": "cpu",
    "Compiled": "graphs", "Graphed": "graphs", "Prepared": "graphs", "replays": "graphs",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import torch only when it is needed: a mistyped parameter is reported without it."""
    if name not in _NEEDS_TORCH:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
