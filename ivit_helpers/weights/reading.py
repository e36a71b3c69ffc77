"""Tensors read once from their files, and scanned for damage on the way.

Each tensor is mapped into memory alone, scanned there, and copied from there to the device. The whole-file mappings of
`torch.load(mmap=True)` and `safe_open` are about as fast, but every page that was read stays in the process's memory until the last
tensor is dropped: 11 GiB more at the peak for the 6B network, where a mapping of one tensor is closed after its copy.
"""

import mmap
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ivit_helpers.device.device import dtype_name
from ivit_helpers.errors import InputError
from ivit_helpers.record.progress import Progress
from ivit_helpers.weights.files import Place

BLOCK_BYTES = 2**18
PAGE_BYTES = 4096
SCANNERS = 4
"""Threads that scan. Disks deliver more to several readers than to one."""
_INTEGERS = {2: (np.int16, np.uint16), 4: (np.int32, np.uint32), 8: (np.int64, np.uint64)}


def _largest(values: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The largest magnitude in each block of values (count,); infinite or NaN where a value of the block is infinite or NaN.

    The bits of the floats are compared as integers, which is many times faster than comparing 16-bit floats. Without the sign
    bit, more magnitude is a larger integer, and NaN is larger than infinity. The largest signed integer is the largest positive
    value, and the largest unsigned integer is the largest negative value; where one sign is missing, both are the same value.
    """
    signed, unsigned = _INTEGERS[values.itemsize]
    bits = values.view(torch.uint8).numpy().view(signed)
    begins, magnitude = np.arange(0, len(bits), BLOCK_BYTES // values.itemsize), np.iinfo(bits.dtype).max
    positive = np.maximum.reduceat(bits, begins) & magnitude
    negative = np.maximum.reduceat(bits.view(unsigned), begins).view(signed) & magnitude
    return torch.from_numpy(np.maximum(positive, negative)).view(values.dtype).double().numpy()


@dataclass(frozen=True)
class Findings:
    """What a scan found in the values of one tensor.

    A tensor is refused for values that are not finite, for zeros only (except a bias), for a last page of zeros, and for a whole
    block of zeros. An interrupted download leaves these in a file of the right length, and safetensors and torch accept them.
    """

    largest: float
    """Largest magnitude in the blocks that are finite"""
    not_finite: int
    """Number of values that are not finite"""
    ends_in_zeros: bool
    """Whether the last page has no bit set"""
    hole: int | None
    """Byte at which the first whole block of zeros begins"""

    def fault(self, name: str) -> str:
        """What is wrong with the tensor of that name, as the end of a sentence; empty for a sound tensor."""
        if self.not_finite:
            return f"holds {self.not_finite:,} values that are not finite"
        if not self.largest:
            return "" if name.endswith("bias") else "is all zeros"
        if self.ends_in_zeros:
            return "ends in a page of zeros"
        if self.hole is not None:
            return f"holds only zeros in the {BLOCK_BYTES:,} bytes from its byte {self.hole:,} on"
        return ""


def scan(values: Tensor) -> Findings:
    """Read values (count,) on the CPU, at least one, for damage; from any thread."""
    largest, blocks = _largest(values), values.split(BLOCK_BYTES // values.itemsize)
    finite = np.isfinite(largest)
    zeros = [number for number in np.flatnonzero(largest == 0) if blocks[number].nbytes == BLOCK_BYTES]
    last_page = values.view(torch.uint8)[-PAGE_BYTES:].numpy()
    return Findings(
        largest=float(largest[finite].max(initial=0.0)),
        not_finite=sum(int((~blocks[number].isfinite()).sum()) for number in np.flatnonzero(~finite)),
        ends_in_zeros=len(last_page) == PAGE_BYTES and not last_page.any(),
        hole=int(zeros[0]) * BLOCK_BYTES if zeros else None,
    )


def _tensor(place: Place, stored: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> Tensor:
    return torch.from_numpy(stored).view(place.dtype).view(place.shape)


def mapped(places: Mapping[str, Place]) -> dict[str, Tensor]:
    """The tensors in private memory mappings, one of each file: not copied, and read from the file when they are first used."""
    whole = {file: np.memmap(file, np.uint8, "c") for file in {place.file for place in places.values()}}
    return {
        name: _tensor(place, whole[place.file][place.offset : place.offset + place.nbytes])
        for name, place in places.items()
    }


def _mapped_alone(place: Place) -> Tensor:
    """One tensor in a mapping of its own, which is closed with the tensor. Raises InputError."""
    begin = place.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    try:
        with place.file.open("rb") as file:
            memory = mmap.mmap(
                file.fileno(), place.offset + place.nbytes - begin, access=mmap.ACCESS_COPY, offset=begin
            )
    except ValueError:  # the mapping would reach beyond the file's end
        raise InputError(f"{place.file} became shorter while it was read: is it still being downloaded?") from None
    except OSError as error:
        raise InputError(f"{place.file} cannot be read ({error.strerror}): copy or download the file again.") from None
    memory.madvise(mmap.MADV_SEQUENTIAL)  # else a disk also reads what is before and behind each page that is touched
    return _tensor(place, np.frombuffer(memory, np.uint8)[place.offset - begin :])


def _sound(name: str, place: Place, fits: torch.dtype) -> tuple[str, Tensor]:
    tensor = _mapped_alone(place)
    found = scan(tensor.flatten())
    if fault := found.fault(name):
        raise InputError(
            f"{place.file} is damaged: {name} {fault}; download the file again and compare its SHA-256 (verify=true)."
        )
    if found.largest > torch.finfo(fits).max:
        advice = (
            "run with dtype='bfloat16' or dtype='float32'"
            if fits == torch.float16
            else f"correct the tensor in {place.file}"
        )
        raise InputError(f"{name} holds {found.largest:.3g}, which {dtype_name(fits)} cannot: {advice}.")
    return name, tensor


def read(places: Mapping[str, Place], fits: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of each tensor that has values, in the order of the files, while the next tensors are scanned.

    Copy the tensor and do not keep it: it is a memory mapping, which holds an open file and counts as memory of this process.
    Raises InputError for the first tensor that is damaged, or holds a value that `fits` cannot hold.
    """
    filled = ((name, place) for name, place in places.items() if place.nbytes)
    ordered = iter(sorted(filled, key=lambda item: (item[1].file, item[1].offset)))
    total = sum(place.nbytes for place in places.values())
    with (
        ThreadPoolExecutor(SCANNERS) as pool,
        Progress(total=total, desc="loading weights", unit="B", unit_scale=True) as progress,
    ):
        scanned = deque(pool.submit(_sound, *item, fits) for item in islice(ordered, SCANNERS))
        while scanned:
            name, tensor = scanned.popleft().result()
            scanned.extend(pool.submit(_sound, *item, fits) for item in islice(ordered, 1))
            yield name, tensor
            progress.update(tensor.nbytes)
