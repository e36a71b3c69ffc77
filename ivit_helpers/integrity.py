"""Damage that a file's format does not show: values no weights have, and a file that is not what it was named."""

import hashlib
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ivit_helpers.errors import InputError

BLOCK_BYTES = 2**18
"""Small enough to stay in a core's cache from one look to the next"""
PAGE_BYTES = 4096
LFS_POINTER = b"version https://git-lfs"
_INTEGERS = {2: (torch.int16, np.uint16), 4: (torch.int32, np.uint32), 8: (torch.int64, np.uint64)}


def _largest(blocks: Tensor) -> list[float]:
    """The largest magnitude in each row of (rows, columns); infinite where a value is infinite or not a number.

    The bits of a float, read as an integer, grow with its magnitude: those of positive numbers as a signed integer, those of
    negative ones as an unsigned one, and nothing is beyond infinity but what is not a number. Integers are compared many times
    faster than 16-bit floats, and one thread of numpy does it, where torch's would have to wait for each other at every block.
    """
    signed, unsigned = _INTEGERS[blocks.itemsize]
    bits = blocks.view(signed).numpy()
    sign = 1 << (8 * blocks.itemsize - 1)
    positive = bits.max(axis=1).clip(0).astype(unsigned)
    negative = bits.view(unsigned).max(axis=1).clip(sign) - unsigned(sign)
    magnitudes = torch.from_numpy(np.maximum(positive, negative).astype(bits.dtype)).view(blocks.dtype)
    return [value if value < math.inf else math.inf for value in magnitudes.tolist()]  # not a number is not less


def _zeros_at_end(values: Tensor) -> int:
    """How many values at the end have no bit set."""
    other = np.flatnonzero(values.view(_INTEGERS[values.itemsize][0]).numpy())
    return len(values) - 1 - int(other[-1]) if len(other) else len(values)


class Scan:
    """The values of one tensor, seen chunk after chunk, in one pass.

    Refused are values that are not finite, a tensor of zeros only (but a bias, which may be so), zeros over its last page, and a
    whole block of zeros anywhere: what an interrupted download leaves in a file of the right length. safetensors accepts all of them.
    """

    def __init__(self) -> None:
        self.largest = 0.0
        """Largest magnitude of a finite block"""
        self._not_finite = self._trailing_zeros = self._seen = 0
        self._hole: int | None = None

    def see(self, chunk: Tensor) -> None:
        """Take the next values, one-dimensional, on the CPU."""
        columns = BLOCK_BYTES // chunk.itemsize
        whole = len(chunk) // columns * columns
        for part in (chunk[:whole].view(-1, columns), chunk[whole:].view(1, -1)):
            if part.numel():
                self._judge(part)
        tail = chunk[-PAGE_BYTES // chunk.itemsize :]
        zeros = _zeros_at_end(tail)
        self._trailing_zeros = zeros * chunk.itemsize + (self._trailing_zeros if zeros == len(tail) else 0)

    def _judge(self, blocks: Tensor) -> None:
        for number, largest in enumerate(_largest(blocks)):
            if largest == math.inf:
                self._not_finite += int((~blocks[number].isfinite()).sum())
            elif largest == 0 and self._hole is None and blocks[0].nbytes == BLOCK_BYTES:
                self._hole = self._seen + number * BLOCK_BYTES
            else:
                self.largest = max(self.largest, largest)
        self._seen += blocks.nbytes

    def fault(self, name: str) -> str:
        """What is wrong with the tensor of that name, as the end of a sentence; empty for a sound one."""
        if self._not_finite:
            return f"holds {self._not_finite:,} values that are not finite"
        if not self.largest:
            return "" if name.endswith("bias") else "is all zeros"
        if self._trailing_zeros >= PAGE_BYTES:
            return "ends in a page of zeros"
        if self._hole is not None:
            return f"is filled with zeros from its byte {self._hole:,} on"
        return ""


def check_beginning(path: Path) -> None:
    """Name, from a file's length and first bytes, what lies there in place of weights. Raises InputError."""
    with path.open("rb") as file:
        beginning = file.read(512)
    if not beginning:
        raise InputError(f"{path} is empty: download it again.")
    if beginning.startswith(LFS_POINTER):
        raise InputError(f"{path} is a git-LFS pointer, not the weights: run `git lfs pull` in its folder, or download it from the hub.")
    if beginning.lstrip()[:1] == b"<":
        raise InputError(f"{path} is a web page in place of weights: download it again, logged in if the page asks for it.")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal, with a progress bar."""
    digest = hashlib.sha256()
    with (
        path.open("rb") as file,
        tqdm(total=path.stat().st_size, desc=f"SHA-256 of {path.name}", unit="B", unit_scale=True, leave=False, delay=1) as progress,
    ):
        while block := file.read(2**24):
            digest.update(block)
            progress.update(len(block))
    return digest.hexdigest()
