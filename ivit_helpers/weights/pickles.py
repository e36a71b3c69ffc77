"""Pickled weights, read as names, shapes and places of tensors; nothing in them is ever run, and no tensor's data is read.

torch's own restricted unpickler reads them. The official head also holds its training configuration, a `yacs.config.CfgNode`: here
that becomes an ordered dict, which can do nothing, and yacs is never imported.
"""

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.serialization import safe_globals

from ivit_helpers.errors import InputError, first_line

WRAPPERS = ("module", "model", "state_dict")
"""Keys under which a training checkpoint holds its tensors; what is beside them, an optimizer's state for one, is left out"""
INERT: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (OrderedDict, "yacs.config.CfgNode"),
    (set, "builtins.set"),  # every CfgNode holds one
    (frozenset, "builtins.frozenset"),
]
"""(what it becomes, the name in the file), beside what torch allows by itself: tensors and plain containers"""
ZIP_BEGINS, PICKLE_BEGINS = b"PK\x03\x04", b"\x80"


def check_archive(path: Path) -> None:
    """Raise InputError for a file that is not a zip archive, as torch.save writes since torch 1.6.

    The first bytes are checked, since torch.load chooses its reader by them, and the end, where a zip archive has its directory: a
    file of the older format with an archive appended would go to the older reader.
    """
    with path.open("rb") as file:
        beginning = file.read(len(ZIP_BEGINS))
    if beginning.startswith(PICKLE_BEGINS):
        raise InputError(
            f"{path} cannot be read as weights (torch.save, since torch 1.6, writes archives that begin otherwise): "
            "load it where you trust it, and save its state dict again with torch.save."
        )
    if beginning != ZIP_BEGINS or not zipfile.is_zipfile(path):
        raise InputError(f"{path} cannot be read as weights (its end is missing, or torch.save did not write it): download it again.")


def _refuse_programs(path: Path) -> None:
    """A TorchScript archive would go to torch.jit. torch's own zip reader is asked, so that both see the same records."""
    if "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise pickle.UnpicklingError("it is a TorchScript program")


def _reason(error: Exception) -> str:
    """What torch's unpickler found, without its advice: to read the file unrestricted, or to trust what it names."""
    found = str(error).partition("WeightsUnpickler error:")[2].strip() or str(error)
    if named := re.search(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)", found):
        return f"it names {named.group(1)}, which is neither a tensor nor a plain container"
    if "Unsupported operand" in found:
        return "its pickle protocol is not 2, the one that torch.save writes by itself"
    if kind := re.search(r"but got <class '(.+)'>", found):
        return f"it changes or calls a {kind.group(1)}, which is neither a tensor nor a plain container"
    return found.splitlines()[0]


def read_pickle(path: Path) -> Any:
    """The content of a file that torch.save wrote: tensors without data, plain containers, numbers and texts.

    A tensor's data begin at byte `tensor.untyped_storage()._checkpoint_offset` (torch's notes on serialization, "FakeTensorMode").
    Raises InputError naming the first thing in the file that is neither a tensor nor inert, and for a damaged file.
    """
    check_archive(path)
    try:
        _refuse_programs(path)
        with FakeTensorMode(), safe_globals(INERT), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of another pickle protocol, which the error reports
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} is refused: {_reason(error)}; give a file that holds weights only.") from None
    except Exception as error:  # a damaged pickle makes the unpickler raise almost anything
        raise InputError(
            f"{path} cannot be read as weights ({first_line(error)}): the file is damaged or incomplete, download it again."
        ) from None


def read_state_dict(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a pickled checkpoint by stored name. Raises InputError where there are none, and as `read_pickle` does."""
    content = read_pickle(path)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise InputError(f"{path} holds no state dict (names and tensors, or those under {' or '.join(map(repr, WRAPPERS))}).")
    return content
