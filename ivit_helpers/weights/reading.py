"""Tensors read once from their files, and scanned for damage on the way."""

import math
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import FileIO
from itertools import groupby
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ivit_helpers.errors import InputError
from ivit_helpers.weights.files import Place

BLOCK_BYTES = 2**18
"""Small enough to stay in a core's cache from one look to the next"""
PAGE_BYTES = 4096
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


def judge_accuracy(blocks: Tensor) -> Findings:
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


def scan(values: Tensor) -> Findings:
    """Look at values (count,) on the CPU once; from any thread."""
    columns = BLOCK_BYTES // values.itemsize
    whole = len(values) // columns * columns
    found = Findings()
    for part in (values[:whole].view(-1, columns), values[whole:].view(1, -1)):
        if part.numel():
            found = found.then(judge_accuracy(part))
    return replace(found, zeros_at_end=_zeros_at_end(values[-PAGE_BYTES // values.itemsize :]) * values.itemsize)


CHUNK_BYTES, READERS = 2**24, 4
"""Disks deliver more to several readers than to one, and each scans what it read while a core's cache holds it; 64 MiB in all"""


def mapped(places: Mapping[str, Place]) -> dict[str, Tensor]:
    """The tensors as private memory mappings of their files: no copy, and read when they are first used."""
    whole = {file: _mapping(file) for file in {place.file for place in places.values()}}
    return {
        name: torch.frombuffer(whole[place.file], dtype=place.dtype, count=prod(place.shape), offset=place.offset).view(place.shape)
        for name, place in places.items()
    }


def _mapping(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        # Writable only because torch wants it so; nothing written would reach the file.
        return mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)


@dataclass(frozen=True)
class Chunk:
    """Some of a tensor's values, valid until the next chunk is asked for."""

    name: str
    begin: int
    """Index of the first value in the flattened tensor"""
    values: Tensor
    """One-dimensional, on the CPU, in the file's dtype"""
    findings: Findings


def chunks(places: Mapping[str, Place]) -> Iterator[Chunk]:
    """All values in the files' order, 16 MiB at most at a time, scanned; the next ones are read and scanned while one is used.

    Reading beats touching a memory mapping: the disk sees large requests, and the values are scanned while the cache holds them.
    """
    ordered = sorted(places.items(), key=lambda item: (item[1].file, item[1].offset))
    jobs = [
        (name, place, begin, min(CHUNK_BYTES, place.nbytes - begin))
        for name, place in ordered
        for begin in range(0, place.nbytes, CHUNK_BYTES)
    ]
    buffers = [bytearray(CHUNK_BYTES) for _ in range(min(READERS, len(jobs)))]
    with ExitStack() as stack:
        files = {file: stack.enter_context(file.open("rb", buffering=0)) for file in {place.file for place in places.values()}}
        readers = stack.enter_context(ThreadPoolExecutor(READERS))

        def read(number: int) -> Chunk:
            name, place, begin, length = jobs[number]
            buffer = buffers[number % len(buffers)]
            _read_into(files[place.file], memoryview(buffer)[:length], place.offset + begin)
            values = torch.frombuffer(buffer, dtype=place.dtype, count=length // place.dtype.itemsize)
            return Chunk(name, begin // place.dtype.itemsize, values, scan(values))

        reading = deque(readers.submit(read, number) for number in range(len(buffers)))
        for number in range(len(jobs)):
            yield reading.popleft().result()
            if number + len(buffers) < len(jobs):
                reading.append(readers.submit(read, number + len(buffers)))


def _read_into(file: FileIO, buffer: memoryview, offset: int) -> None:
    while buffer:
        read = os.preadv(file.fileno(), [buffer], offset)
        if not read:
            raise InputError(f"{file.name} became shorter while it was read: is it still being downloaded?")
        buffer, offset = buffer[read:], offset + read


def read_and_scan(places: Mapping[str, Place], use: Callable[[Chunk], None], fits: torch.dtype) -> None:
    """Hand every chunk to `use`, and raise InputError for the first tensor with values that no weights have or that `fits` cannot hold."""
    total, largest = sum(place.nbytes for place in places.values()), torch.finfo(fits).max
    with tqdm(total=total, desc="loading weights", unit="B", unit_scale=True, leave=False, delay=1) as progress:
        for name, parts in groupby(chunks(places), lambda chunk: chunk.name):
            found = Findings()
            for chunk in parts:
                found = found.then(chunk.findings)
                use(chunk)
                progress.update(chunk.values.nbytes)
            if fault := found.fault(name):
                raise InputError(
                    f"{places[name].file} is damaged: {name} {fault}; download the file again and compare its SHA-256 (verify=true)."
                )
            if found.largest > largest:
                raise InputError(f"{name} holds {found.largest:.3g}, which float16 cannot: run with dtype='bfloat16' or dtype='float32'.")
