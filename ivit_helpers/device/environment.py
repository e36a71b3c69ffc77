"""What this machine is: versions, driver, card, and the variables that change speed or numbers."""

import os
import platform
from importlib import metadata

import psutil
import torch

from ivit_helpers.device.device import Device

PACKAGES = ("torch", "torch-npu", "transformers", "safetensors", "numpy", "pillow", "papermill", "nbconvert")


def _package_versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe(device: Device) -> dict[str, object]:
    """Everything about this machine that a reader needs to compare a figure with their own; absent things are left out."""
    described: dict[str, object] = {
        "device": device.name,
        "device_type": device.kind,
        "device_memory_bytes": device.total_memory(),
        "peak_tflops": device.peak_tflops() or None,
        "host": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "host_cores": os.cpu_count(),
        "host_threads_used_by_torch": torch.get_num_threads(),
        "host_memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        **_package_versions(),
        **device.environment(),
        "note": device.note or None,
        **{name: os.environ[name] for name in (*device.variables, "OMP_NUM_THREADS") if name in os.environ},
    }
    return {name: value for name, value in described.items() if value is not None}
