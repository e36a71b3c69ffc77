"""What this machine is: versions, CANN, driver, card, and the variables that change speed or numbers."""

import os
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import psutil
import torch

from ivit_helpers import npu_smi
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
BATCH_DEFAULTS = {"TASK_QUEUE_ENABLE": "1"}
"""Set for a kernel that runs in batch, where the user has not chosen: torch_npu would take it for a person at a prompt and turn
its task queue off"""
CANN_HOMES = ("/usr/local/Ascend/ascend-toolkit/latest", "/usr/local/Ascend/cann")
DRIVER_INFO = Path("/usr/local/Ascend/driver/version.info")
# Which CANN a torch-npu was made for (source: Ascend/pytorch). Two parts are enough: the third is a patch.
CANN_OF_TORCH_NPU: Mapping[str, str] = {
    "2.9.0": "8.5",
    "2.9.0.post1": "8.5",
    "2.9.0.post2": "9.0",
    "2.9.0.post6": "9.1",
    "2.10.0.post4": "9.1",
    "2.11.0": "9.1",
    "2.12.0": "9.1",
}


def package_versions() -> dict[str, str]:
    """Installed versions; a package that is not installed is left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _version_in(path: Path) -> str | None:
    try:
        found = re.search(r"(?im)^version\s*=\s*(\S+)", path.read_text(errors="replace"))
    except OSError:
        return None
    return found.group(1) if found else None


def cann_version() -> str | None:
    """The CANN version from the toolkit's install info; None where there is no CANN."""
    homes = [os.environ.get("ASCEND_HOME_PATH") or os.environ.get("ASCEND_TOOLKIT_HOME") or "", *CANN_HOMES]
    for home in filter(None, homes):
        for path in sorted(Path(home).glob("*/ascend_toolkit_install.info")) + sorted(Path(home).glob("*/version.info")):
            version = _version_in(path)
            if version:
                return version
    return None


def _npu_smi(device: Device) -> dict[str, str]:
    return npu_smi.of_card(device.torch_device.index or 0) if device.type == "npu" else {}


def card_state(device: Device) -> dict[str, str]:
    """Free memory, and what npu-smi tells of an NPU now."""
    state = {"free memory": f"{device.available_memory() / 2**30:.1f} GiB of {device.total_memory() / 2**30:.1f} GiB"}
    return state | _npu_smi(device)


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
        "driver": _version_in(DRIVER_INFO) if device.type == "npu" else None,
        **_npu_smi(device),
        "note": device.note or None,
        **{name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    return {name: value for name, value in described.items() if value is not None}


def version_mismatch(torch_npu: str, cann: str | None) -> str:
    """One sentence when a torch-npu (its public version counts) stands on another CANN than it was made for; else empty."""
    public = torch_npu.partition("+")[0]
    made_for = CANN_OF_TORCH_NPU.get(public)
    if made_for is None or cann is None or cann.split(".")[:2] == made_for.split("."):
        return ""
    return f"torch-npu {public} was made for CANN {made_for}, this machine has {cann}: install the torch-npu of this CANN."


def caveats(device: Device, model: dict[str, object]) -> list[str]:
    """What a reader must know of the machine and the model before believing a figure; `model` is the record's part."""
    found = []
    if "NPU_RIG" in os.environ:
        found.append("Run on the test rig's stub of CANN: this is no NPU, and no figure here is a speed.")
    if device.type == "cpu":
        found.append("Measured on a CPU: no figure here is an accelerator's.")
    if device.note:
        found.append(f"The NPU was not used: {device.note}")
    if os.environ.get("ASCEND_LAUNCH_BLOCKING", "0") != "0" or os.environ.get("CUDA_LAUNCH_BLOCKING", "0") != "0":
        found.append("Launches were blocking (LAUNCH_BLOCKING is set): the times are not the device's, unset it and run again.")
    if device.type == "npu":
        if os.environ.get("TASK_QUEUE_ENABLE") == "0":
            found.append("torch-npu's task queue was off (TASK_QUEUE_ENABLE=0): small batches are slower than in a script.")
        found.append(version_mismatch(package_versions().get("torch-npu", ""), cann_version()))
    if not model["shards"]:
        found.append("The weights are random: speed and agreement are real, the answers mean nothing.")
    elif model["name"] == "tiny-internvit":
        found.append("The model is the embedded miniature: its speed says nothing of the 6B network.")
    return [sentence for sentence in found if sentence]
