"""The calls that are in a pickle of torch.save: their arguments are checked, nothing is called."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import torch

from ivit_helpers.weights.regular import shown

DEVICE_LENGTH = 20
DIMENSIONS = 64
"""The most that torch computes with"""
STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16, "CharStorage": torch.int8,
    "ByteStorage": torch.uint8, "BoolStorage": torch.bool, "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
}  # fmt: skip
ITEM_BYTES = {f"torch.{name}": dtype.itemsize for name, dtype in STORAGES.items()} | {"torch.storage.UntypedStorage": 1}


@dataclass(frozen=True)
class Named:
    """In place of a class or function that a pickle names."""

    name: str


@dataclass(frozen=True)
class Storage:
    """In place of a storage."""

    key: str
    item_bytes: int
    nbytes: int


@dataclass(frozen=True)
class Made:
    """In place of a tensor, a set, a size or a device."""

    kind: str


def whole(value: object, largest: int = 2**62) -> bool:
    """Whether a value is a whole number from 0 to `largest`, and not a boolean."""
    return type(value) is int and 0 <= value <= largest


def dtype_bytes(named: object) -> int | None:
    """Bytes of one value of a dtype that is named as torch.NAME; None for anything else."""
    dtype = (
        vars(torch).get(named.name.removeprefix("torch.")) if isinstance(named, Named) else None
    )  # getattr would import modules
    return dtype.itemsize if isinstance(dtype, torch.dtype) else None


def _tensor(arguments: tuple[Any, ...]) -> str:
    """The arguments of torch's `_rebuild_tensor_v2`."""
    match arguments:
        case (Storage() as storage, offset, tuple(shape), tuple(stride), bool(), dict()):
            return _in_storage(storage, offset, shape, stride, storage.item_bytes)
    return ""


def _tensor_of_dtype(arguments: tuple[Any, ...]) -> str:
    """The arguments of torch's `_rebuild_tensor_v3`, which is for dtypes without a storage class of their own."""
    match arguments:
        case (Storage() as storage, offset, tuple(shape), tuple(stride), bool(), dict(), named):
            return _in_storage(storage, offset, shape, stride, dtype_bytes(named) or 0)
    return ""


def _in_storage(storage: Storage, offset: Any, shape: tuple[Any, ...], stride: tuple[Any, ...], item_bytes: int) -> str:
    numbers = (offset, *shape, *stride)
    if (
        not item_bytes
        or len(shape) != len(stride)
        or len(shape) > DIMENSIONS
        or not all(whole(number) for number in numbers)
    ):
        raise UnpicklingError(
            "it has a tensor whose shape, strides or offset are not whole numbers from 0 on, as many as each other"
        )
    last = sum((side - 1) * step for side, step in zip(shape, stride, strict=True)) if math.prod(shape) else -1
    if math.prod(shape) * item_bytes > storage.nbytes or (last + 1 + offset) * item_bytes > storage.nbytes:
        raise UnpicklingError(
            f"it has a tensor of shape {shown(shape)} that reaches beyond its storage of {storage.nbytes:,} bytes"
        )
    return "tensor"


def _parameter(arguments: tuple[Any, ...]) -> str:
    match arguments:
        case (Made("tensor"), bool(), dict()):
            return "tensor"
    return ""


def _size(arguments: tuple[Any, ...]) -> str:
    match arguments:
        case (tuple(sides),) if all(whole(side) for side in sides):
            return "size"
    return ""


def _device(arguments: tuple[Any, ...]) -> str:
    match arguments:
        case (str(name),) | (str(name), int()) if len(name) <= DEVICE_LENGTH:
            return "device"
    return ""


def _bytes(arguments: tuple[Any, ...]) -> str:
    match arguments:
        case (str(), "latin1" | "latin-1"):
            return "bytes"
    return ""


CALLS: dict[str, Callable[[tuple[Any, ...]], str]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    "torch.device": _device,
    "_codecs.encode": _bytes,
}
"""What a checkpoint calls, and what comes of it; nothing where the arguments are not those that torch.save writes"""
