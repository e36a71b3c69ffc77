"""Which operators one forward pass runs, how often and where, and which of them the device lacks."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ivit_helpers.device import Device
from ivit_helpers.errors import describe_error
from ivit_helpers.report import NOTHING, Table

# Operators that do the work of several in one kernel.
_FUSED = re.compile(r"attention|rms_norm|layer_norm|gelu|addmm|linear|conv")


@dataclass
class Audit:
    """What one call ran."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each (operator, device type) ran; views are left out, they compute nothing"""
    refused: dict[str, str] = field(default_factory=dict)
    """Operators that failed, with the first line of their error"""
    fell_back: list[str] = field(default_factory=list)
    """Operators that ran on the CPU because the device lacks them"""

    @staticmethod
    def is_fused(operator: str) -> bool:
        return bool(_FUSED.search(operator))


class _Counting(TorchDispatchMode):
    def __init__(self, audit: Audit) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.audit = audit

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            self.audit.refused.setdefault(name, describe_error(error))
            raise
        if not func.is_view:
            tensors = [item for item in pytree.tree_leaves((args, kwargs, result)) if isinstance(item, Tensor)]
            where = {tensor.device.type for tensor in tensors} or {"cpu"}
            self.audit.calls[name, " to ".join(sorted(where, reverse=True))] += 1
        return result


def audited(call: Callable[[], object], device: Device) -> Audit:
    """Run one call and list its operators; an error of the call ends the list and is kept in it."""
    audit = Audit()
    with device.fall_backs() as fell_back:
        try:
            with _Counting(audit):
                call()
        except (RuntimeError, NotImplementedError) as error:
            if not audit.refused:
                audit.refused["the call"] = describe_error(error)
    audit.fell_back = fell_back
    return audit


def operators_table(calls: Mapping[tuple[str, str], int], notes: Mapping[str, str]) -> Table:
    """Operators, most called first; those that failed or fell back are on top, with a note."""
    rows = [
        {
            "operator": name,
            "calls": str(count),
            "where": where,
            "kind": "fused" if Audit.is_fused(name) else "plain",
            "note": notes.get(name, ""),
        }
        for (name, where), count in sorted(calls.items(), key=lambda item: (item[0][0] not in notes, -item[1]))
    ]
    called = {name for name, _ in calls}
    missed = [
        {"operator": name, "calls": NOTHING, "where": NOTHING, "kind": NOTHING, "note": note}
        for name, note in notes.items()
        if name not in called
    ]
    return Table([*missed, *rows], "One forward pass of one image; views compute nothing and are left out")
