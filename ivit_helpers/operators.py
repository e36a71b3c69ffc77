"""Which operators one forward pass runs, how often and where; and which of them the device does not have."""

import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ivit_helpers.errors import told

# Written by torch_npu's C++ side, once for each operator of a process, straight to file descriptor 2.
_FALL_BACK = re.compile(r"operator '([^']+)' is not currently supported on the NPU backend and will fall back")
# Operators that do the work of several in one kernel.
_FUSED = re.compile(r"attention|rms_norm|layer_norm|gelu|addmm|linear|conv")


@contextmanager
def standard_error() -> Iterator[list[str]]:
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


def fell_back(lines: list[str]) -> list[str]:
    """The operators that ran on the CPU instead, by the warnings among these lines, in order."""
    return list(dict.fromkeys(name for line in lines for name in _FALL_BACK.findall(line)))


@dataclass
class Audit:
    """What one call ran."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each (operator, device type) ran; views are left out, they compute nothing"""
    refused: dict[str, str] = field(default_factory=dict)
    """Operators that failed, with the first line of their error"""
    fell_back: list[str] = field(default_factory=list)

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
            self.audit.refused.setdefault(name, told(error))
            raise
        if not func.is_view:
            tensors = [item for item in pytree.tree_leaves((args, kwargs, result)) if isinstance(item, Tensor)]
            where = {tensor.device.type for tensor in tensors} or {"cpu"}
            self.audit.calls[name, " to ".join(sorted(where, reverse=True))] += 1
        return result


def audited(call: Callable[[], object]) -> Audit:
    """Run one call and list its operators; an error of the call ends the list and is kept in it."""
    audit = Audit()
    with standard_error() as lines:
        try:
            with _Counting(audit):
                call()
        except (RuntimeError, NotImplementedError) as error:
            if not audit.refused:
                audit.refused["the call"] = told(error)
    audit.fell_back = fell_back(lines)
    return audit
