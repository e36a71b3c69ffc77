"""Pickled weights, read as names, shapes and places of tensors; nothing in them is ever run, and no tensor's data is read.

Each opcode is checked first, and torch's own restricted unpickler reads what passes. The official head also holds its training
configuration, a `yacs.config.CfgNode`: here that becomes an ordered dict, which can do nothing, and yacs is never imported.
"""

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.serialization import safe_globals

from ivit_helpers.errors import InputError, first_line
from ivit_helpers.weights.archives import read_archive
from ivit_helpers.weights.opcodes import Scan
from ivit_helpers.weights.regular import bare, check_regular

WRAPPERS = ("module", "model", "state_dict")
"""Keys under which a training checkpoint holds its tensors; what is beside them, an optimizer's state for one, is left out"""
INERT: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (OrderedDict, "yacs.config.CfgNode"),
    (set, "builtins.set"),  # every CfgNode holds one
    (frozenset, "builtins.frozenset"),
]
"""(what it becomes, the name in the file), beside what torch allows by itself: tensors and plain containers"""
REASON_LENGTH = 200
"""Characters of another library's error"""
ZIP_BEGINS, PICKLE_BEGINS = b"PK\x03\x04", b"\x80"


def check_archive(path: Path) -> int:
    """Length of the pickle in a file of torch.save.

    The first bytes are checked, since torch.load chooses its reader by them, then the archive's directory, and what its pickle does.
    Raises InputError for a file that torch.save, since torch 1.6, did not write, or that holds more than tensors and plain containers.
    """
    check_regular(path)
    with path.open("rb") as file:
        beginning = file.read(len(ZIP_BEGINS))
    if beginning.startswith(PICKLE_BEGINS):
        raise InputError(
            f"{path} cannot be read as weights (torch.save, since torch 1.6, writes archives that begin otherwise): "
            "load it where you trust it, and save its state dict again with torch.save."
        )
    if beginning != ZIP_BEGINS:
        raise InputError(
            f"{path} cannot be read as weights (its end is missing, or torch.save did not write it): download it again."
        )
    with _in_a_sentence(path):
        archive = read_archive(path)
        Scan(archive).run()
    return len(archive.pickle)


@contextmanager
def _in_a_sentence(path: Path) -> Iterator[None]:
    """Turn what reading the file raises into one InputError."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} is refused: {first_line(error)}; give a file that holds weights only.") from None
    except Exception as error:  # a damaged pickle makes an unpickler raise almost anything
        reason = bare(first_line(error)[:REASON_LENGTH])
        raise InputError(
            f"{path} cannot be read as weights ({reason}): the file is damaged or incomplete, download it again."
        ) from None


def read_pickle(path: Path) -> Any:
    """The content of a file that torch.save wrote: tensors without data, plain containers, numbers and texts.

    A tensor's data begin at byte `tensor.untyped_storage()._checkpoint_offset` (torch's notes on serialization, "FakeTensorMode").
    Raises InputError naming the first thing in the file that is neither a tensor nor inert, and for a damaged file.
    """
    check_archive(path)
    with _in_a_sentence(path), FakeTensorMode(), safe_globals(INERT), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocol 3
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # its text says how to read the file unrestricted
            raise ValueError("torch's restricted reader refuses it") from None


def read_state_dict(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a pickled checkpoint by stored name. Raises InputError where there are none, and as `read_pickle` does."""
    content = read_pickle(path)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items())
    ):
        raise InputError(
            f"{path} holds no state dict (names and tensors, or those under {' or '.join(map(repr, WRAPPERS))})."
        )
    return content
