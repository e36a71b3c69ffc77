"""What every device can be asked. Each device is a subclass in a file of its own; this class holds what accelerators have in common."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ivit_helpers.errors import InputError, Unavailable, describe_error, first_line

D = TypeVar("D", bound="Device")
T = TypeVar("T")


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as parameters and records spell it, e.g. "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the host, ran out of memory; each backend says so in its own words."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "out of memory" in str(error).lower()


def torch_rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """torch's fused RMSNorm: (..., C) input, (C,) weight -> (..., C)."""
    return F.rms_norm(x, (x.shape[-1],), weight, epsilon)


def torch_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's scaled dot product attention, which each device backs with its own flash attention. All tensors are (B, H, N, D)."""
    return F.scaled_dot_product_attention(q, k, v)


def three_launches(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, gelu: Callable[[Tensor], Tensor]
) -> Tensor:
    """A linear, a GELU and a linear, each a launch where its operator is one; arguments as in `model.Kernels.mlp`."""
    return F.linear(gelu(F.linear(x, weight1, bias1)), weight2, bias2)


@dataclass(frozen=True)
class Device:
    """One accelerator, or the CPU. The methods here serve any accelerator that torch has a device module for."""

    torch_device: torch.device
    name: str
    """What the driver calls it, e.g. "Ascend910B4" """
    note: str = ""
    """Why "auto" passed over another device; else empty"""

    kind: ClassVar[str]
    """What users call this kind of device, e.g. "npu" """
    uses_host_memory: ClassVar[bool] = False
    family: ClassVar[str] = ""
    """The vendor's name for such devices, by which hubs list models; empty for none"""
    status_command: ClassVar[str] = ""
    """The vendor's command that shows whether the device is well; empty where there is none"""
    package_extra: ClassVar[str] = ""
    """The extra of this project that brings the software of the device; empty where it needs none"""
    peaks: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    """Dense 16-bit matrix peaks in TFLOP/s, by their source, for each device name. The longest key that a name contains counts"""
    bandwidths: ClassVar[Mapping[str, float]] = {}
    """The vendor's memory bandwidth in GB/s (10^9 bytes) for each device name; the longest key that a name contains counts"""
    matmul_side: ClassVar[int] = 8192
    """Side of the square matrix product that is measured as a practical limit"""
    variables: ClassVar[tuple[str, ...]] = ()
    """Environment variables that change speed or numbers here"""
    blocking_variable: ClassVar[str] = ""
    """The variable that makes every launch wait for the device"""
    graph_class: ClassVar[str] = ""
    """The class of captured graphs in torch's module of this device; empty where it has none"""
    batch_environment: ClassVar[Mapping[str, str]] = {}
    """Environment variables for the Jupyter kernel that `ivit run` starts, unless the user has set them"""
    error_meanings: ClassVar[Mapping[str, str]] = {}
    """What a number or phrase in an error of this device means, and what to do"""
    lost: ClassVar[str] = ""
    """Regular expression of errors after which this process cannot use the card any more; empty where there are none"""

    # --- which one ---

    @classmethod
    def why_absent(cls) -> str:
        """One sentence on why this machine has no such device and what to do; empty where it has one. Loads the vendor's backend."""
        raise NotImplementedError

    @classmethod
    def is_installed(cls) -> bool:
        """Whether the software for this device is installed; asks no driver."""
        raise NotImplementedError

    @classmethod
    def count(cls) -> int:
        """How many cards of this kind answer."""
        return int(torch.get_device_module(cls.kind).device_count())

    @classmethod
    def open(cls: type[D], index: int, note: str = "") -> D:
        """Select card number `index`. Raises InputError when there is no such card or when it does not start."""
        module = torch.get_device_module(cls.kind)
        count = cls.count()
        if index >= count:
            raise InputError(
                f"device='{cls.kind}:{index}' does not exist: this machine has {count}, numbered 0 to {count - 1}."
            )
        try:
            module.set_device(index)
            cls.compute_exactly(module)
            return cls(torch.device(cls.kind, index), module.get_device_name(index), note)
        except RuntimeError as error:
            raise InputError(
                f"device='{cls.kind}:{index}' is there but does not start ({cls.explain(error)}): check the driver and its tools."
            ) from None

    @classmethod
    def compute_exactly(cls, module: ModuleType) -> None:
        """Turn off whatever makes float32 less than float32, or an operator another one, on this kind of device."""

    # --- running ---

    @property
    def _module(self) -> ModuleType:
        module: ModuleType = torch.get_device_module(self.torch_device)
        return module

    def synchronize(self) -> None:
        """Wait until all work given to the device is done; errors of that work surface here."""
        self._module.synchronize(self.torch_device)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Everything that runs the network does so in here: no gradients, and whatever else the device needs."""
        with torch.inference_mode():
            yield

    def fused_operators(self) -> dict[str, Callable[..., Tensor]]:
        """The fused operator for each slot of `model.Kernels` that has one here: of rms_norm, gelu, attention, add_scaled, mlp."""
        return {"rms_norm": torch_rms_norm, "gelu": F.gelu, "attention": torch_attention, "add_scaled": torch.addcmul}

    def other_operators(self) -> dict[str, Callable[..., Tensor]]:
        """For a slot whose fused operator is refused, the operator to try before the plain form; empty where there is none."""
        return {}

    # --- graphs and compilers ---

    def graph_type(self) -> Any:
        """The class of captured graphs; None where there is none."""
        return getattr(self._module, self.graph_class, None) if self.graph_class else None

    def why_no_graphs(self) -> str:
        """One sentence on why launches cannot be captured as a graph; empty where they can."""
        if not self.graph_class:
            return f"device={self.kind!r} has no graphs: there are no launches to save"
        return (
            ""
            if self.graph_type()
            else f"torch.{self.kind} has no {self.graph_class}: install a newer torch for this device"
        )

    def new_graph(self) -> Any:
        """An empty graph to capture launches in."""
        return self.graph_type()()

    def compile_backend(self) -> str:
        """The backend of torch.compile."""
        return "inductor"

    @contextmanager
    def fall_backs(self) -> Iterator[list[str]]:
        """Collect the names of operators that run on the CPU because the device lacks them; the list is complete after the block."""
        yield []

    # --- dtypes ---

    def multiplies(self, dtype: torch.dtype) -> bool:
        """Whether there are matrix instructions for a dtype."""
        return True

    def supports(self, dtype: torch.dtype) -> bool:
        """Whether the device computes a dtype at all."""
        return dtype != torch.bfloat16 or bool(self._module.is_bf16_supported())

    def dtype(self, wanted: str) -> torch.dtype:
        """The torch dtype for the `dtype` parameter. "auto" is bfloat16 where the device has instructions for it, else float32."""
        if wanted == "auto":
            return torch.bfloat16 if self.multiplies(torch.bfloat16) else torch.float32
        chosen: torch.dtype = getattr(torch, wanted)
        if not self.supports(chosen):
            raise InputError(f"{self.name} does not compute {wanted}: run with dtype='float16' or dtype='float32'.")
        return chosen

    # --- memory, in bytes ---

    def available_memory(self) -> int:
        """Free bytes."""
        return int(self._module.mem_get_info(self.torch_device)[0])

    def total_memory(self) -> int:
        """All bytes, free or not."""
        return int(self._module.mem_get_info(self.torch_device)[1])

    def reset_peak_memory(self) -> None:
        """Begin a new peak for `peak_memory`."""
        self._module.reset_peak_memory_stats(self.torch_device)

    def peak_memory(self) -> int | None:
        """Most bytes allocated on the card since the reset; None where nobody counts them."""
        return int(self._module.max_memory_allocated(self.torch_device))

    def allocated_memory(self) -> int | None:
        """Bytes allocated on the card now; None where nobody counts them."""
        return int(self._module.memory_allocated(self.torch_device))

    def release_memory(self) -> None:
        """Give cached blocks back to the driver, so that one configuration's memory does not count against the next."""
        self._module.empty_cache()

    @property
    def memory_measured(self) -> str:
        """What `peak_memory` counts, in words."""
        return "resident in the whole process" if self.uses_host_memory else "allocated on the card"

    # --- what a reader must know ---

    def peak_tflops(self) -> dict[str, float]:
        """Dense 16-bit matrix peaks in TFLOP/s by their source; empty for a device that has no published peak."""
        return dict(self._by_name(self.peaks) or {})

    def peak_gb_per_s(self) -> float | None:
        """The vendor's memory bandwidth in GB/s (10^9 bytes); None for a device whose bandwidth is not known."""
        return self._by_name(self.bandwidths)

    def _by_name(self, table: Mapping[str, T]) -> T | None:
        """The entry of the longest key that this device's name contains."""
        return table[max(keys, key=len)] if (keys := [key for key in table if key in self.name]) else None

    def power_watts(self) -> float | None:
        """What the card takes now, in watts; None where nobody says."""
        return None

    def state(self) -> dict[str, str]:
        """Free memory, and what the vendor's tool says of the card now."""
        free, total = (size / 2**30 for size in (self.available_memory(), self.total_memory()))
        return {"free memory": f"{free:.1f} GiB of {total:.1f} GiB", **self.vendor_state()}

    def vendor_state(self) -> dict[str, str]:
        """What the vendor's tool says of the card now."""
        return {}

    def other_processes(self) -> list[str] | None:
        """Processes of others on the card, in words; None where they cannot be listed."""
        return None

    def environment(self) -> dict[str, str]:
        """Versions of the vendor's software and the state of the card, for the record; absent things are left out."""
        return self.vendor_state()

    def caveats(self) -> list[str]:
        """What a reader must know of this device before believing a figure measured on it."""
        found = [f"Another device was not used: {self.note}"] if self.note else []
        if os.environ.get(self.blocking_variable, "0") != "0":
            found.append(
                f"Launches were blocking ({self.blocking_variable} is set): the times are not the device's, unset it and run again."
            )
        return found

    @classmethod
    def is_lost(cls, error: BaseException) -> bool:
        """Whether the card does no more work for this process: it is lost, or out of memory."""
        return is_out_of_memory(error) or bool(cls.lost and re.search(cls.lost, str(error)))

    @classmethod
    def explain(cls, error: BaseException) -> str:
        """An error of this device in one line: what was raised and, where it is known, what it means and what to do."""
        if isinstance(error, Unavailable):
            return str(error)
        if is_out_of_memory(error):
            return f"out of memory: {first_line(error)}"
        meanings = [meaning for sign, meaning in cls.error_meanings.items() if sign in str(error)]
        if not meanings and cls.is_lost(error):
            meanings = [f"the card is lost to this process: look at it with `{cls.status_command}`"]
        return "; ".join([describe_error(error), *meanings])

    def __str__(self) -> str:
        return f"{self.torch_device} ({self.name})"
