"""npu, cuda and cpu behind one face: choose one, wait for it, ask it for memory and peaks."""

import importlib.util
import os
import platform
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import psutil
import torch

from ivit_helpers.errors import InputError, told
from ivit_helpers.kernels import WideProductsOnCPU, multiplies_natively

SET_ENV = "source /usr/local/Ascend/ascend-toolkit/set_env.sh (newer: /usr/local/Ascend/cann/set_env.sh)"

# Dense 16-bit matrix peaks in TFLOP/s. Ascend: cube units, then the marketed total (torchtitan-npu's table).
# NVIDIA: data sheets, without sparsity. A name is looked up by the longest key it contains.
_PEAKS: dict[str, dict[str, float]] = {
    "Ascend910B1": {"cube": 373.9, "marketed": 400.0},
    "Ascend910B2": {"cube": 353.9, "marketed": 376.0},
    "Ascend910B3": {"cube": 294.9, "marketed": 313.0},
    "Ascend910B4": {"cube": 245.76, "marketed": 280.0},
    "Ascend910_93": {"cube": 353.9, "marketed": 376.0},
    "A100": {"data sheet": 312.0},
    "H100 PCIe": {"data sheet": 756.0},
    "H100": {"data sheet": 989.4},
    "H200": {"data sheet": 989.4},
}
_CUBE_FLOPS_PER_CYCLE = 8192  # 16 x 16 x 16 multiply-adds a cycle in each Ascend cube core


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as parameters and records spell it, e.g. "bfloat16"."""
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Device:
    """One accelerator, or the CPU."""

    torch_device: torch.device
    name: str
    """What the driver calls it, e.g. "Ascend910B4" """
    note: str = ""
    """Why "auto" passed over something, else empty"""

    @property
    def type(self) -> str:
        return self.torch_device.type

    @property
    def _module(self) -> ModuleType:
        module: ModuleType = torch.get_device_module(self.torch_device)
        return module

    def synchronize(self) -> None:
        """Wait until all work given to the device is done; errors of that work surface here."""
        if self.type != "cpu":
            self._module.synchronize(self.torch_device)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Everything that runs the network does so in here: no gradients, and a CPU's missing 16-bit products made good."""
        widened = not multiplies_natively(self.type, torch.bfloat16)
        with torch.inference_mode(), WideProductsOnCPU() if widened else nullcontext():
            yield

    def available_memory(self) -> int:
        """Free bytes on the card; on the CPU, of this machine."""
        return psutil.virtual_memory().available if self.type == "cpu" else int(self._module.mem_get_info(self.torch_device)[0])

    def total_memory(self) -> int:
        """Bytes of the card; on the CPU, of this machine."""
        return psutil.virtual_memory().total if self.type == "cpu" else int(self._module.mem_get_info(self.torch_device)[1])

    def reset_peak_memory(self) -> None:
        """Begin a new peak for `peak_memory`."""
        if self.type == "cpu":
            reset_host_peak()
        else:
            self._module.reset_peak_memory_stats(self.torch_device)

    def peak_memory(self) -> int | None:
        """Most bytes allocated on the card since the reset; on the CPU, the process's peak resident size."""
        return host_peak() if self.type == "cpu" else int(self._module.max_memory_allocated(self.torch_device))

    def release_memory(self) -> None:
        """Give cached blocks back to the driver, so that one configuration's memory does not count against the next."""
        if self.type != "cpu":
            self._module.empty_cache()

    def peak_tflops(self) -> dict[str, float]:
        """Dense 16-bit matrix peaks in TFLOP/s by their source; empty for a device that nobody has listed."""
        if self.type == "npu":
            listed = _ascend_platform_peak(self.name)
            if listed:
                return listed
        keys = [key for key in _PEAKS if key in self.name]
        return _PEAKS[max(keys, key=len)] if keys else {}

    def dtype(self, wanted: str) -> torch.dtype:
        """The torch dtype for the `dtype` parameter; "auto" is bfloat16 where the device multiplies it, else float32."""
        if wanted == "auto":
            return torch.bfloat16 if multiplies_natively(self.type, torch.bfloat16) else torch.float32
        chosen: torch.dtype = getattr(torch, wanted)
        if chosen == torch.bfloat16 and self.type != "cpu" and not self._module.is_bf16_supported():
            raise InputError(f"{self.name} does not compute bfloat16: run with dtype='float16' or dtype='float32'.")
        return chosen

    def __str__(self) -> str:
        return f"{self.torch_device} ({self.name})"


def _ascend_platform_peak(name: str) -> dict[str, float]:
    """The cube peak from CANN's own description of this card, beside the marketed figure of the table."""
    home = os.environ.get("ASCEND_HOME_PATH", "")
    for path in Path(home).glob(f"*-linux/data/platform_config/{name}.ini") if home else ():
        text = path.read_text(errors="replace")
        numbers = [re.search(rf"^{key}=(\d+)", text, re.MULTILINE) for key in ("cube_core_cnt", "cube_freq")]
        if all(numbers):
            cores, megahertz = (int(found.group(1)) for found in numbers if found)
            return {**_PEAKS.get(name, {}), "cube": _CUBE_FLOPS_PER_CYCLE * cores * megahertz / 1e6}
    return {}


def host_peak() -> int | None:
    """Peak resident bytes of this process since `reset_host_peak`; None where the system does not say."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found.group(1)) * 1024 if found else None


def reset_host_peak() -> None:
    """Begin a new peak for `host_peak`, where the system lets a process do so (Linux, not in every container)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _import_npu() -> str:
    """Import torch_npu; returns an empty string, or one sentence on why there is no NPU and what to do."""
    if importlib.util.find_spec("torch_npu") is None:
        return "torch-npu is not installed: pip install 'ivit-helpers[npu]', with the version that matches this machine's CANN."
    chosen = os.environ.get("TASK_QUEUE_ENABLE")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*TASK_QUEUE_ENABLE")
            import torch_npu  # noqa: F401  registers torch.npu
    except Exception as error:  # the loader raises whatever CANN's libraries make it raise
        return f"torch-npu is installed but CANN could not be loaded ({told(error)}): install CANN, or {SET_ENV}."
    if chosen is not None:
        # In a notebook kernel torch_npu turns its task queue off whatever was asked for, and launches become slower than a script's.
        os.environ["TASK_QUEUE_ENABLE"] = chosen
    if torch.get_device_module("npu").device_count() == 0:
        return "torch-npu and CANN are there but no NPU answers: check `npu-smi info` and ASCEND_RT_VISIBLE_DEVICES."
    return ""


def _import_cuda() -> str:
    return "" if torch.cuda.is_available() else "torch finds no CUDA device: check `nvidia-smi` and that torch is a CUDA build."


_IMPORTS = {"npu": _import_npu, "cuda": _import_cuda}


def _accelerator(kind: str, index: int, note: str = "") -> Device:
    module = torch.get_device_module(kind)
    count = module.device_count()
    if index >= count:
        raise InputError(f"device='{kind}:{index}' does not exist: this machine has {count}, numbered 0 to {count - 1}.")
    try:
        module.set_device(index)
        _compute_what_was_asked(kind, module)
        return Device(torch.device(kind, index), module.get_device_name(index), note)
    except RuntimeError as error:
        raise InputError(f"device='{kind}:{index}' is there but does not start ({told(error)}): check the driver and its tools.") from None


def _compute_what_was_asked(kind: str, module: ModuleType) -> None:
    # float32 means float32: both vendors round the inputs of float32 convolutions by default.
    # GELU means GELU: torch-npu computes the tanh form whatever `approximate` says, and transformers would be blamed for it.
    if kind == "npu":
        module.conv.allow_hf32 = False
        module.matmul.allow_hf32 = False
        if hasattr(module, "use_compatible_impl"):  # newer torch-npu
            module.use_compatible_impl(True)
    else:
        torch.backends.cudnn.allow_tf32 = False


def _cpu_name() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


def wakes_an_accelerator(wanted: str) -> bool:
    """Whether `select` would start a driver, which then holds memory for the rest of the process."""
    return wanted != "cpu" and (not wanted.startswith("auto") or importlib.util.find_spec("torch_npu") is not None)


def select(wanted: str) -> Device:
    """The device that the `device` parameter names: "auto" (npu, then cuda, then cpu), "npu", "npu:1", "cuda", "cpu".

    Raises InputError, with the next step, when it is not there.
    """
    if wanted == "auto":
        reasons: list[str] = []
        for kind, attempt in _IMPORTS.items():
            reason = attempt()
            if not reason:
                return _accelerator(kind, 0, " ".join(reasons))
            reasons.append(reason)
        # Absent software is the normal case on a laptop; only an NPU that should work and does not is worth a note.
        return Device(torch.device("cpu"), _cpu_name(), reasons[0] if importlib.util.find_spec("torch_npu") else "")
    kind, _, index = wanted.partition(":")
    if kind == "cpu":
        return Device(torch.device("cpu"), _cpu_name())
    reason = _IMPORTS[kind]()
    if reason:
        raise InputError(f"device={wanted!r} cannot be used: {reason}")
    return _accelerator(kind, int(index or 0))
