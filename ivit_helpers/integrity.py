"""Damage that a file's format does not show: values no weights have, and a file that is not what it was named."""

import hashlib
import math
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Findings:
    """What was seen of consecutive values of one tensor.

    Refused are values that are not finite, a tensor of zeros only (but a bias, which may be so), zeros over its last page, and a
    whole block of zeros anywhere: what an interrupted download leaves in a file of the right length. safetensors accepts all of them.
    """

    nbytes: int = 0
    largest: float = 0.0
    """Largest magnitude of a finite block"""
    not_finite: int = 0
    """Values that are not finite"""
    zeros_at_end: int = 0
    """Bytes, counted no further back than a page within one look"""
    hole: int | None = None
    """Where the first whole block of zeros begins, in bytes"""

    def then(self, following: "Findings") -> "Findings":
        """The same of these values and those that follow them."""
        return Findings(
            nbytes=self.nbytes + following.nbytes,
            largest=max(self.largest, following.largest),
            not_finite=self.not_finite + following.not_finite,
            zeros_at_end=following.zeros_at_end + (self.zeros_at_end if following.zeros_at_end == following.nbytes else 0),
            hole=self.hole if self.hole is not None or following.hole is None else self.nbytes + following.hole,
        )

    def fault(self, name: str) -> str:
        """What is wrong with the tensor of that name, as the end of a sentence; empty for a sound one."""
        if self.not_finite:
            return f"holds {self.not_finite:,} values that are not finite"
        if not self.largest:
            return "" if name.endswith("bias") else "is all zeros"
        if self.zeros_at_end >= PAGE_BYTES:
            return "ends in a page of zeros"
        if self.hole is not None:
            return f"is filled with zeros from its byte {self.hole:,} on"
        return ""


def _judged(blocks: Tensor) -> Findings:
    """Rows of one length (rows, columns)."""
    largest = np.array(_largest(blocks))
    finite = np.isfinite(largest)
    empty = np.flatnonzero(largest == 0)
    return Findings(
        nbytes=blocks.nbytes,
        largest=float(largest[finite].max(initial=0.0)),
        not_finite=sum(int((~blocks[int(row)].isfinite()).sum()) for row in np.flatnonzero(~finite)),
        hole=int(empty[0]) * BLOCK_BYTES if len(empty) and blocks[0].nbytes == BLOCK_BYTES else None,
    )


def seen(values: Tensor) -> Findings:
    """Look at values (count,) on the CPU once; from any thread."""
    columns = BLOCK_BYTES // values.itemsize
    whole = len(values) // columns * columns
    found = Findings()
    for part in (values[:whole].view(-1, columns), values[whole:].view(1, -1)):
        if part.numel():
            found = found.then(_judged(part))
    return replace(found, zeros_at_end=_zeros_at_end(values[-PAGE_BYTES // values.itemsize :]) * values.itemsize)


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
