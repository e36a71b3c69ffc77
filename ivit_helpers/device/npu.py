"""Ascend cards, through torch-npu and CANN."""

import importlib.util
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import torch
from torch import Tensor

from ivit_helpers.device import npu_smi
from ivit_helpers.device.device import Device, three_launches, torch_attention
from ivit_helpers.device.npu_mlp import FusedMLP

SET_ENV = "source /usr/local/Ascend/ascend-toolkit/set_env.sh (newer: /usr/local/Ascend/cann/set_env.sh)"
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
_CUBE_FLOPS_PER_CYCLE = 8192  # 16 x 16 x 16 multiply-adds a cycle in each Ascend cube core
_ALL_TOKENS = 2**31 - 1  # an attention operator's default for the tokens after a query may be 0
# Written by torch_npu's C++ side, once for each operator of a process, straight to file descriptor 2.
_FALL_BACK = re.compile(r"operator '([^']+)' is not currently supported on the NPU backend and will fall back")


class NPU(Device):
    """One Ascend card."""

    kind = "npu"
    family, status_command, package_extra = "ascend", "npu-smi info", "npu"
    # Cube units, then the marketed total (source: torchtitan-npu's table).
    peaks: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "Ascend910B1": {"cube": 373.9, "marketed": 400.0},
        "Ascend910B2": {"cube": 353.9, "marketed": 376.0},
        "Ascend910B3": {"cube": 294.9, "marketed": 313.0},
        "Ascend910B4": {"cube": 245.76, "marketed": 280.0},
        "Ascend910_93": {"cube": 353.9, "marketed": 376.0},
    }
    variables = (
        "ASCEND_LAUNCH_BLOCKING", "ASCEND_RT_VISIBLE_DEVICES", "TASK_QUEUE_ENABLE", "CPU_AFFINITY_CONF", "PYTORCH_NPU_ALLOC_CONF",
    )  # fmt: skip
    blocking_variable = "ASCEND_LAUNCH_BLOCKING"
    graph_class = "NPUGraph"
    # In a notebook kernel torch_npu takes the run for a person at a prompt and turns its task queue off.
    batch_environment: ClassVar[Mapping[str, str]] = {"TASK_QUEUE_ENABLE": "1"}
    # Sources of these and the following: Ascend/pytorch, Ascend/op-plugin and vllm-ascend issues. 507011 is a failed replay, no lost card.
    lost = r"FORCE STOP|UCE ERROR|HBM MULTI BIT ECC ERROR|SUSPECT MEM ERROR|\b507(?!011)\d{3}\b"
    error_meanings: ClassVar[Mapping[str, str]] = {
        "500001": "the card could not be initialised, usually because driver and CANN do not match: install the CANN of this driver",
        "undefined symbol": "torch and torch-npu are of different versions: install the torch-npu of this torch",
        "207008": "the card is out of streams or graphs: capture fewer graphs, or end other processes on the card",
        "507011": "a captured graph failed when it was replayed: run without graph capture",
        "107025": "a stream was used during graph capture and not joined back: run without graph capture",
        "107027": "the host waited for the card during graph capture: unset ASCEND_LAUNCH_BLOCKING, else run without graph capture",
        "107030": "something during graph capture waits for the card, or cannot be captured: run without graph capture, or install a "
        "newer torch-npu",
        "TASK_QUEUE_ENABLE = 2": "graphs need TASK_QUEUE_ENABLE=0 or 1: set it and run again",
        "pin_memory_expandable_segments": "take pin_memory_expandable_segments out of PYTORCH_NPU_ALLOC_CONF and run again",
        "161002": "an operator does not take this dtype: run with dtype='float32' and report the operator",
        "Cannot run aclop operators": "only aclnn operators can be captured: set torch.npu.config.allow_internal_format = False",
    }  # fmt: skip

    @classmethod
    def is_installed(cls) -> bool:
        return importlib.util.find_spec("torch_npu") is not None

    @classmethod
    def why_absent(cls) -> str:
        if not cls.is_installed():
            return "torch-npu is not installed: pip install 'ivit-helpers[npu]', with the version that matches this machine's CANN."
        try:
            _import_torch_npu()
        except Exception as error:  # the loader raises whatever CANN's libraries make it raise
            return f"torch-npu is installed but CANN could not be loaded ({cls.explain(error)}): install CANN, or {SET_ENV}."
        if torch.get_device_module("npu").device_count() == 0:
            return (
                "torch-npu and CANN are there but no NPU answers: check `npu-smi info` and ASCEND_RT_VISIBLE_DEVICES."
            )
        return ""

    @classmethod
    def compute_exactly(cls, module: ModuleType) -> None:
        module.conv.allow_hf32 = False  # HF32 rounds the inputs of float32 convolutions by default
        module.matmul.allow_hf32 = False
        if hasattr(module, "use_compatible_impl"):  # newer torch-npu
            # F.gelu computes the tanh form here whatever `approximate` says, and transformers would be blamed for it.
            module.use_compatible_impl(True)

    def fused_operators(self) -> dict[str, Callable[..., Tensor]]:
        import torch_npu

        def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
            normed: Tensor = torch_npu.npu_rms_norm(x, weight, epsilon)[0]
            return normed

        def gelu(x: Tensor) -> Tensor:
            exact: Tensor = torch_npu.npu_gelu(x, approximate="none")
            return exact

        def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            # It reads (B, N, C) as the linears write it, so nothing is copied into heads and back, and it can be captured in a graph by
            # every torch-npu; what torch's own attention calls is (B, H, N, D), and cannot be captured before op-plugin 26.
            if q.dtype == torch.float32:  # it takes 16 bits only
                return torch_attention(q, k, v)
            heads, width = q.shape[1], q.shape[-1]
            mixed = torch_npu.npu_prompt_flash_attention(
                *(t.transpose(1, 2).flatten(2) for t in (q, k, v)),
                num_heads=heads, scale_value=width**-0.5, input_layout="BSH", next_tokens=_ALL_TOKENS,
            )  # fmt: skip
            heads_again: Tensor = mixed.view(*mixed.shape[:-1], heads, width).transpose(1, 2)
            return heads_again

        # npu_add_rms_norm would not save a launch: the layer scale lies between the linear and the sum, so a product would be left over.
        return super().fused_operators() | {
            "rms_norm": rms_norm,
            "gelu": gelu,
            "attention": attention,
            "mlp": FusedMLP(),
        }

    def compile_backend(self) -> str:
        """Which are registered depends on the version; the first is a fused graph that is captured, the second is torchair's."""
        known = torch._dynamo.list_backends(None)
        return next((name for name in ("npugraph_ex", "npu") if name in known), "inductor")

    def other_operators(self) -> dict[str, Callable[..., Tensor]]:
        return {"attention": torch_attention, "mlp": three_launches}

    @contextmanager
    def fall_backs(self) -> Iterator[list[str]]:
        found: list[str] = []
        with _standard_error() as lines:
            yield found
        found += dict.fromkeys(name for line in lines for name in _FALL_BACK.findall(line))

    def peak_tflops(self) -> dict[str, float]:
        cube = _cube_peak(self.name)
        return super().peak_tflops() | ({"cube": cube} if cube else {})

    def vendor_state(self) -> dict[str, str]:
        return npu_smi.of_card(self.torch_device.index or 0)

    def power_watts(self) -> float | None:
        try:
            return float(npu_smi.of_card(self.torch_device.index or 0, ["npu_power_w"]).get("npu_power_w", ""))
        except ValueError:
            return None

    def other_processes(self) -> list[str] | None:
        return npu_smi.processes(self.torch_device.index or 0)

    def environment(self) -> dict[str, str]:
        versions = {"cann": cann_version(), "driver": _version_in(DRIVER_INFO)}
        return {name: version for name, version in versions.items() if version} | super().environment()

    def caveats(self) -> list[str]:
        found = super().caveats()
        if "NPU_RIG" in os.environ:
            found.insert(0, "Run on the test rig's stub of CANN: this is not an NPU, and no figure here is a speed.")
        if os.environ.get("TASK_QUEUE_ENABLE") == "0":
            found.append(
                "torch-npu's task queue was off (TASK_QUEUE_ENABLE=0): small batches are slower than in a script."
            )
        mismatch = version_mismatch(metadata.version("torch-npu"), cann_version())
        return [*found, mismatch] if mismatch else found


def _import_torch_npu() -> None:
    chosen = os.environ.get("TASK_QUEUE_ENABLE")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*TASK_QUEUE_ENABLE")
        import torch_npu  # noqa: F401  registers torch.npu
    if chosen is not None:
        # In a notebook kernel torch_npu turns its task queue off whatever was asked for, and launches become slower than a script's.
        os.environ["TASK_QUEUE_ENABLE"] = chosen


@contextmanager
def _standard_error() -> Iterator[list[str]]:
    """Collect what is written to file descriptor 2 in here, by C++ code too; it is passed on afterwards."""
    lines: list[str] = []
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            written = file.read()
            os.write(2, written)
            lines += written.decode(errors="replace").splitlines()


def _cube_peak(name: str) -> float | None:
    """The cube peak in TFLOP/s from CANN's own description of this card; None where CANN does not describe it."""
    home = os.environ.get("ASCEND_HOME_PATH", "")
    for path in Path(home).glob(f"*-linux/data/platform_config/{name}.ini") if home else ():
        text = path.read_text(errors="replace")
        numbers = [re.search(rf"^{key}=(\d+)", text, re.MULTILINE) for key in ("cube_core_cnt", "cube_freq")]
        if all(numbers):
            cores, megahertz = (int(found.group(1)) for found in numbers if found)
            return _CUBE_FLOPS_PER_CYCLE * cores * megahertz / 1e6
    return None


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
        for path in sorted(Path(home).glob("*/ascend_toolkit_install.info")) + sorted(
            Path(home).glob("*/version.info")
        ):
            version = _version_in(path)
            if version:
                return version
    return None


def version_mismatch(torch_npu: str, cann: str | None) -> str:
    """One sentence when a torch-npu (its public version counts) runs on another CANN than it was made for; else empty."""
    public = torch_npu.partition("+")[0]
    made_for = CANN_OF_TORCH_NPU.get(public)
    if made_for is None or cann is None or cann.split(".")[:2] == made_for.split("."):
        return ""
    return (
        f"torch-npu {public} was made for CANN {made_for}, this machine has {cann}: install the torch-npu of this CANN."
    )
