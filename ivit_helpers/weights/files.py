"""Weight files: which of them a folder has, and where each tensor is in them."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import torch

from ivit_helpers.device.device import dtype_name
from ivit_helpers.errors import InputError
from ivit_helpers.record.progress import Progress
from ivit_helpers.weights.headers import TENSORS, check_header, header
from ivit_helpers.weights.pickles import check_archive, read_state_dict
from ivit_helpers.weights.regular import (
    DESCRIPTION_BYTES,
    INDEX_BYTES,
    check_regular,
    is_there,
    listed,
    printable,
    read_json,
    shown,
)

LFS_POINTER = b"version https://git-lfs"
WEB_PAGE = re.compile(rb"\s*<[!?a-zA-Z]")
"""Not every beginning with `<`: the length of a safetensors header may be a space and a `<`"""
SHARDS = 2**10
"""Files of one model: a shard has gigabytes, so that so many are terabytes"""


def check_beginning(path: Path) -> None:
    """Raise InputError for a file that, by its kind, its length or its first bytes, is something else than weights."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            beginning = file.read(512)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): copy or download the file again.") from None
    if not beginning:
        raise InputError(f"{path} is empty: download it again.")
    if beginning.startswith(LFS_POINTER):
        raise InputError(
            f"{path} is a git-LFS pointer, not the weights: run `git lfs pull` in its folder, or download it from the hub."
        )
    if WEB_PAGE.match(beginning):
        raise InputError(
            f"{path} is a web page, not the weights: download it again, after logging in if the page asks for it."
        )


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal, with a progress bar."""
    digest = hashlib.sha256()
    with (
        path.open("rb") as file,
        Progress(total=path.stat().st_size, desc=f"SHA-256 of {path.name}", unit="B", unit_scale=True) as progress,
    ):
        while block := file.read(2**24):
            digest.update(block)
            progress.update(len(block))
    return digest.hexdigest()


STEMS = (("model", ".safetensors"), ("pytorch_model", ".bin"))
"""(Stem, suffix) of the published weight files, in order of preference"""
PICKLED = (".bin", ".pth", ".pt")
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The dtypes that weights may have, by their names in safetensors"""
COUNTER = "num_batches_tracked"
"""Ends the name of an integer that BatchNorm counts in training and does not need in inference"""


@dataclass(frozen=True)
class Place:
    """Where a tensor is in a file, in one piece, with its shape and dtype."""

    file: Path
    offset: int
    """Of its first byte"""
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def tensors_of(folder: Path) -> dict[str, Path]:
    """The weight file of each tensor of a model folder, by stored name: safetensors if there are any, else pickles. Opens no shard.

    Raises InputError for an index that names no files of the folder, and for shards that the index does not name.
    """
    for stem, suffix in STEMS:
        index, single = folder / f"{stem}{suffix}.index.json", folder / f"{stem}{suffix}"
        if is_there(index):
            return _indexed(index, f"{stem}-*{suffix}")
        if is_there(single):
            return dict.fromkeys(shapes_of([single]), single)
    wanted = ", ".join(f"{stem}{suffix} or its index" for stem, suffix in STEMS)
    raise InputError(f"{folder} holds no weights: it needs {wanted}.")


def files_of(tensors: Mapping[str, Path], prefix: str = "") -> tuple[Path, ...]:
    """The files that hold tensors whose stored name begins with `prefix`, in order.

    Raises InputError for missing ones, and ones that are no weights by their first and last bytes.
    """
    files = tuple(sorted({file for name, file in tensors.items() if name.startswith(prefix)}))
    if missing := [file for file in files if not is_there(file)]:
        names = listed([file.name for file in missing])
        raise InputError(f"{missing[0].parent} lacks {names}, named in its index: download the missing shards.")
    described = 0
    for file in files:
        described += check_file(file)
        if described > DESCRIPTION_BYTES:
            raise InputError(
                f"{file.parent} holds more than {DESCRIPTION_BYTES:,} bytes of names and shapes of tensors: download it again."
            )
    return files


def _indexed(index: Path, pattern: str) -> dict[str, Path]:
    folder, where = index.parent, _weight_map(index)
    names = sorted(set(where.values()))
    suffix = Path(pattern).suffix
    outside = [name for name in names if Path(name).name != name or Path(name).suffix != suffix or not printable(name)]
    if outside or not names:
        found = shown(outside[0]) if outside else "no shards"
        raise InputError(f"{index} names {found}: a shard must be a file of this folder, and end in {suffix}.")
    if len(names) > SHARDS:
        raise InputError(
            f"{index} names {len(names):,} shards, and at most {SHARDS:,} are read: download the file again."
        )
    if unknown := sorted(path.name for path in folder.glob(pattern) if path.name not in names):
        raise InputError(
            f"{folder} holds {listed(unknown)}, which {index.name} does not name: the files seem to be of two versions, "
            "download one version again."
        )
    return {name: folder / file for name, file in where.items()}


def _weight_map(index: Path) -> dict[str, str]:
    found = read_json(index, INDEX_BYTES).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(file, str) for file in found.values()):
        raise InputError(f"{index} has no weight_map of file names: download the file again.")
    if len(found) > TENSORS or not all(printable(name) for name in found):
        raise InputError(
            f"{index} names more than {TENSORS:,} tensors, or one whose name is too long or cannot be printed: download it again."
        )
    return found


def check_file(path: Path) -> int:
    """Bytes of what a weight file holds beside values: its pickle or header, which is all that is read.

    Raises InputError for a file that is not weights, is incomplete, or whose description is not one of tensors.
    """
    check_beginning(path)
    return check_header(path) if path.suffix == ".safetensors" else check_archive(path)


def shapes_of(files: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of some weight files by stored name; reads no values. Raises InputError."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        check_beginning(path)
        if path.suffix == ".safetensors":
            shapes |= {name: tuple(entry["shape"]) for name, entry in header(path)[1].items()}
        else:
            shapes |= {name: tuple(tensor.shape) for name, tensor in read_state_dict(path).items()}
    return shapes


def _in_safetensors(path: Path, prefix: str) -> Iterator[tuple[str, Place]]:
    begin, entries = header(path)
    for name, entry in entries.items():
        if name.endswith(COUNTER) or not name.startswith(prefix):
            continue
        if entry["dtype"] not in DTYPES:
            raise InputError(_wrong_dtype(path, name, entry["dtype"]))
        yield name, Place(path, begin + entry["data_offsets"][0], tuple(entry["shape"]), DTYPES[entry["dtype"]])


def _in_pickle(path: Path, prefix: str) -> Iterator[tuple[str, Place]]:
    for name, tensor in read_state_dict(path).items():
        if name.endswith(COUNTER) or not name.startswith(prefix):
            continue
        if tensor.dtype not in DTYPES.values():
            raise InputError(_wrong_dtype(path, name, dtype_name(tensor.dtype)))
        if not tensor.is_contiguous():
            raise InputError(
                f"{path} stores {name} as a tensor that is not contiguous: save it again after .contiguous()."
            )
        storage: Any = tensor.untyped_storage()
        yield (
            name,
            Place(
                path,
                storage._checkpoint_offset + int(tensor.storage_offset()) * tensor.itemsize,
                tuple(tensor.shape),
                tensor.dtype,
            ),
        )


def _wrong_dtype(path: Path, name: str, dtype: str) -> str:
    return f"{path} stores {name} as {dtype}, and only floating-point weights can be loaded: give the original weights."


def places_in(path: Path, prefix: str = "") -> dict[str, Place]:
    """The tensors of one weight file whose stored name begins with `prefix`; reads names and shapes, no values. Raises InputError."""
    check_beginning(path)
    found = dict(_in_safetensors(path, prefix) if path.suffix == ".safetensors" else _in_pickle(path, prefix))
    size = path.stat().st_size
    for name, place in found.items():
        if place.offset + place.nbytes > size:
            raise InputError(f"{path} ends before its tensor {name} does: the file is incomplete, download it again.")
    return found


def places(files: Sequence[Path], prefix: str = "") -> dict[str, Place]:
    """The tensors of a folder's weight files whose stored name begins with `prefix`. Raises InputError for one that is in two files."""
    found: dict[str, Place] = {}
    for name, place in chain.from_iterable(places_in(file, prefix).items() for file in files):
        if name in found:
            raise InputError(
                f"{name} is in {found[name].file.name} and in {place.file.name}: the files seem to be of two versions, "
                "download one version again."
            )
        found[name] = place
    return found


def check_index(files: Sequence[Path], found: Mapping[str, Place], prefix: str = "") -> None:
    """Compare the tensors whose stored name begins with `prefix` with the index of their folder, if there is one.

    Raises InputError where they disagree.
    """
    index = {suffix: files[0].parent / f"{stem}{suffix}.index.json" for stem, suffix in STEMS}.get(files[0].suffix)
    if index is None or not index.exists():
        return
    where = {
        name: file
        for name, file in _weight_map(index).items()
        if name.startswith(prefix) and not name.endswith(COUNTER)
    }
    actual = {name: place.file.name for name, place in found.items()}
    wrong = [name for name in {**where, **actual} if where.get(name) != actual.get(name)]
    if wrong:
        name, more = wrong[0], f" (and {len(wrong) - 1} more tensors)" if len(wrong) > 1 else ""
        raise InputError(
            f"{index} places {name} in {where.get(name, 'no file')}, and it is in {actual.get(name, 'no file')}{more}: "
            "index and shards are of different versions, download them together."
        )
