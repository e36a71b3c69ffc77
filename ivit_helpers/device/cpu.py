"""The CPU: a device like the others, and the one that every reference is computed on."""

import ctypes
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ivit_helpers.device.cpu_operators import LOW_PRECISION, mlp, multiplies_natively, rms_norm
from ivit_helpers.device.device import Device

_PRODUCTS = frozenset(
    {F.linear, F.conv2d, F.scaled_dot_product_attention, torch.matmul, torch.bmm, Tensor.matmul, Tensor.__matmul__}
)


class WideProducts(TorchFunctionMode):
    """Compute matrix products of 16-bit CPU tensors in float32 and round the result once.

    A CPU without 16-bit matrix instructions multiplies bfloat16 a few hundred times slower than float32 in torch. Products of
    16-bit numbers are exact in float32, and accelerators accumulate in float32 too, so the rounding is of the same kind.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _PRODUCTS or args[0].dtype not in LOW_PRECISION or args[0].device.type != "cpu":
            return func(*args, **kwargs)

        def wide(value: Any) -> Any:
            return value.float() if isinstance(value, Tensor) and value.dtype in LOW_PRECISION else value

        result = func(*map(wide, args), **{name: wide(value) for name, value in kwargs.items()})
        return result.to(args[0].dtype)


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


def return_freed_memory() -> None:
    """Give memory that this process has freed back to the system, where its C library can (glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class CPU(Device):
    """The processor of this machine."""

    kind = "cpu"
    uses_host_memory = True
    matmul_side = 1024

    @classmethod
    def is_installed(cls) -> bool:
        return True

    @classmethod
    def why_absent(cls) -> str:
        return ""

    @classmethod
    def count(cls) -> int:
        return 1

    @classmethod
    def open(cls, index: int = 0, note: str = "") -> "CPU":
        return cls(torch.device("cpu"), _name(), note)

    def synchronize(self) -> None:
        """Nothing to wait for: a call returns when its work is done."""

    @contextmanager
    def inference(self) -> Iterator[None]:
        """As for every device; products that the CPU has no instructions for are made in float32."""
        with torch.inference_mode(), nullcontext() if self.multiplies(torch.bfloat16) else WideProducts():
            yield

    def multiplies(self, dtype: torch.dtype) -> bool:
        return multiplies_natively(dtype)

    def supports(self, dtype: torch.dtype) -> bool:
        return True

    def fused_operators(self) -> dict[str, Callable[..., Tensor]]:
        found = super().fused_operators() | {"rms_norm": rms_norm}
        return found | {"mlp": mlp} if any(map(self.multiplies, LOW_PRECISION)) else found

    def available_memory(self) -> int:
        return psutil.virtual_memory().available

    def total_memory(self) -> int:
        return psutil.virtual_memory().total

    def reset_peak_memory(self) -> None:
        reset_host_peak()

    def peak_memory(self) -> int | None:
        return host_peak()

    def allocated_memory(self) -> int | None:
        return None

    def release_memory(self) -> None:
        """Nothing is cached."""

    def caveats(self) -> list[str]:
        return ["Measured on a CPU: no figure here is an accelerator's.", *super().caveats()]


def _name() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


def host() -> CPU:
    """The CPU as the device of every reference computation."""
    return CPU(torch.device("cpu"), "reference")
