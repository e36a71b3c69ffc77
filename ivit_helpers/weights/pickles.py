"""Pickled weights, read as names, shapes and places of tensors; nothing in them is ever run, and no tensor's data is read.

Published shards are read by torch's own restricted unpickler. It refuses a file with a configuration object inside, as the official
head has one (`yacs.config.CfgNode`): here such an object becomes a dict that does nothing, and every other name is refused.
"""

import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import _utils as torch_rebuilding
from torch._subclasses.fake_tensor import FakeTensorMode

from ivit_helpers.errors import InputError


class Inert(dict[Any, Any]):
    """What a configuration object in a pickle becomes: its items, and nothing that it could do."""

    def __init__(self, *_arguments: object, **_named: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """Forget the object's attributes."""


class _Unalterable:
    """A function that can be called and nothing else: a pickle may set attributes on what it names, and this has none."""

    __slots__ = ("__call",)

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_Unalterable__call", function)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"it sets {name} on a function")

    def __call__(self, *arguments: Any) -> Any:
        return self.__call(*arguments)  # type: ignore[attr-defined]


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): torch_rebuilding._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch_rebuilding._rebuild_parameter,
}
_INERT_PACKAGES = frozenset({"yacs"})


class _Unpickler(pickle.Unpickler):
    """Finds tensors, ordered dicts and inert objects. torch adds the storages, by their type's name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _FUNCTIONS:
            return _Unalterable(_FUNCTIONS[module, name])
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module.partition(".")[0] in _INERT_PACKAGES:
            return Inert
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is neither a tensor nor a plain container")


def _load(file: io.BufferedIOBase, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


# What torch.load asks of a pickle module.
_RESTRICTED = SimpleNamespace(__name__="restricted", Unpickler=_Unpickler, load=_load)
ZIP_BEGINS = b"PK\x03\x04"


def _refuse_other_formats(path: Path) -> None:
    """Leave torch.load no choice but its reader of zip archives.

    It chooses by the first bytes, while a zip archive is told by its end: a pickle of torch's older format with an archive behind it
    would go to the older reader, which does what the pickle says with the sources of classes. A TorchScript archive would go to
    torch.jit; that is asked of torch's own zip reader, so that both see the same records.
    """
    with path.open("rb") as file:
        if file.read(len(ZIP_BEGINS)) != ZIP_BEGINS:
            raise ValueError("torch.save, since torch 1.6, writes archives that begin otherwise")
    if "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise pickle.UnpicklingError("it is a TorchScript program")


def read_pickle(path: Path, published: bool) -> Any:
    """The content of a file that torch.save wrote: tensors without data, plain containers, numbers and texts.

    A published shard holds tensors only and is read by torch's restricted unpickler, any other file by this module's. A tensor's
    data begin at byte `tensor.untyped_storage()._checkpoint_offset` (torch's notes on serialization, "FakeTensorMode").
    Raises InputError naming the first thing in the file that is neither a tensor nor inert, and for a damaged file.
    """
    how: dict[str, Any] = {"weights_only": True} if published else {"weights_only": False, "pickle_module": _RESTRICTED}
    try:
        _refuse_other_formats(path)
        with FakeTensorMode():
            return torch.load(path, map_location="cpu", **how)
    except pickle.UnpicklingError as error:
        found = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))  # in a page of advice that would be wrong here
        reason = f"it names {found.group(1)}, which is not a tensor" if found else str(error).splitlines()[0]
        raise InputError(f"{path} is refused: {reason}; give a file that holds weights only.") from None
    except Exception as error:  # a damaged pickle makes the unpickler raise almost anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} cannot be read as weights ({reason}): the file is damaged or incomplete, download it again.") from None
