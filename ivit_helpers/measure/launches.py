"""What one call gives to the device: operators, how often and where, which of them it lacks, replayed graphs, and the host's time."""

import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ivit_helpers.device.device import Device
from ivit_helpers.device.graphs import replays
from ivit_helpers.errors import describe_error

# They allocate, or are views that do not say so.
_NEVER_LAUNCHED = frozenset({"aten::empty", "aten::empty_strided", "aten::_unsafe_view"})
CALLS = 5
# Operators that do the work of several in one kernel.
_FUSED = re.compile(r"attention|rms_norm|layer_norm|gelu|addmm|addcmul|linear|conv")


@dataclass
class Audit:
    """What one call ran."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each (operator, device type) ran; views are left out, they compute nothing, but one that had to copy is in"""
    refused: dict[str, str] = field(default_factory=dict)
    """Operators that failed, with the first line of their error"""
    fell_back: list[str] = field(default_factory=list)
    """Operators that ran on the CPU because the device lacks them"""

    @property
    def launches(self) -> int:
        """Operators and graph replays that were given to a device, copies to and from the host among them."""
        return self.calls.total()

    @staticmethod
    def is_fused(operator: str) -> bool:
        return bool(_FUSED.search(operator))


class _Counting(TorchDispatchMode):
    def __init__(self, audit: Audit) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.audit = audit

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            self.audit.refused.setdefault(name, describe_error(error))
            raise
        given, made = _tensors((args, kwargs)), _tensors(result)
        copied = not _storages(made) <= _storages(given)
        if (given or made) and name not in _NEVER_LAUNCHED and (copied or not func.is_view):
            where = {tensor.device.type for tensor in [*given, *made]}
            self.audit.calls[name, " to ".join(sorted(where, reverse=True))] += 1
        return result


def _tensors(values: Any) -> list[Tensor]:
    return [item for item in pytree.tree_leaves(values) if isinstance(item, Tensor)]


def _storages(tensors: list[Tensor]) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def audited(call: Callable[[], object], device: Device) -> Audit:
    """Run one call and list its operators; an error of the call ends the list and is kept in it."""
    audit = Audit()
    with device.fall_backs() as fell_back:
        try:
            with replays(device) as replayed, _Counting(audit):
                call()
            if replayed:
                audit.calls["graph replay", device.torch_device.type] = len(replayed)
        except (RuntimeError, NotImplementedError) as error:
            if not audit.refused:
                audit.refused["the call"] = describe_error(error)
    audit.fell_back = fell_back
    return audit


def host_and_device(call: Callable[[], object], device: Device) -> tuple[float, float]:
    """Median seconds of a few calls on an idle device: until the last launch has returned, and until the device is idle again."""
    pairs = []
    for _ in range(CALLS):
        device.synchronize()
        began = time.perf_counter()
        call()
        returned = time.perf_counter()
        device.synchronize()
        pairs.append((returned - began, time.perf_counter() - began))
    host, idle = (statistics.median(times) for times in zip(*pairs, strict=True))
    return host, idle
