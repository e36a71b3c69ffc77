"""What this machine is: versions, CANN, driver, card, and the variables that change speed or numbers."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path

import psutil
import torch

from ivit_helpers.device import Device

PACKAGES = ("torch", "torch-npu", "transformers", "safetensors", "numpy", "pillow", "papermill", "nbconvert")
VARIABLES = (
    "ASCEND_LAUNCH_BLOCKING",
    "ASCEND_RT_VISIBLE_DEVICES",
    "TASK_QUEUE_ENABLE",
    "CPU_AFFINITY_CONF",
    "PYTORCH_NPU_ALLOC_CONF",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_VISIBLE_DEVICES",
    "PYTORCH_CUDA_ALLOC_CONF",
    "OMP_NUM_THREADS",
)
CANN_HOMES = ("/usr/local/Ascend/ascend-toolkit/latest", "/usr/local/Ascend/cann")


def package_versions() -> dict[str, str]:
    """Installed versions; a package that is not installed is left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cann_version() -> str | None:
    """The CANN version from the toolkit's install info; None where there is no CANN."""
    homes = [os.environ.get("ASCEND_HOME_PATH") or os.environ.get("ASCEND_TOOLKIT_HOME") or "", *CANN_HOMES]
    for home in filter(None, homes):
        for path in sorted(Path(home).glob("*/ascend_toolkit_install.info")) + sorted(Path(home).glob("*/version.info")):
            found = re.search(r"(?im)^version\s*=\s*(\S+)", path.read_text(errors="replace"))
            if found:
                return found.group(1)
    return None


def describe(device: Device) -> dict[str, object]:
    """Everything about this machine that a reader needs to compare a figure with his own; absent things are left out."""
    described: dict[str, object] = {
        "device": device.name,
        "device_type": device.type,
        "device_memory_bytes": device.total_memory(),
        "peak_tflops": device.peak_tflops() or None,
        "host": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "host_cores": os.cpu_count(),
        "host_threads_used_by_torch": torch.get_num_threads(),
        "host_memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        **package_versions(),
        "cann": cann_version(),
        "note": device.note or None,
        **{name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    return {name: value for name, value in described.items() if value is not None}


def caveats(device: Device, model: dict[str, object]) -> list[str]:
    """What a reader must know of the machine and the model before believing a figure; `model` is the record's part."""
    found = []
    if device.type == "cpu":
        found.append("Measured on a CPU: no figure here is an accelerator's.")
    if device.note:
        found.append(f"The NPU was not used: {device.note}")
    if os.environ.get("ASCEND_LAUNCH_BLOCKING", "0") != "0" or os.environ.get("CUDA_LAUNCH_BLOCKING", "0") != "0":
        found.append("Launches were blocking (LAUNCH_BLOCKING is set): the times are not the device's, unset it and run again.")
    if not model["shards"]:
        found.append("The weights are random: speed and agreement are real, the answers mean nothing.")
    elif model["name"] == "tiny-internvit":
        found.append("The model is the embedded miniature: its speed says nothing of the 6B network.")
    return found
