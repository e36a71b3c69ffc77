"""On PYTHONPATH, this gives torch_npu its arithmetic in whatever process imports it: pytest, a notebook kernel, a torchrun worker."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType


class AfterTorchNpu(importlib.abc.MetaPathFinder):
    """Finds torch_npu as usual and adds one step to its execution; looking for it without importing it changes nothing."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "torch_npu":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def then_compute(module: ModuleType) -> None:
            execute(module)
            import npu_arithmetic

            npu_arithmetic.enter()

        spec.loader.exec_module = then_compute  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, AfterTorchNpu())
