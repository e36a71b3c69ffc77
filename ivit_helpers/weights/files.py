"""Weight files: which of them a folder has, and where each tensor is in them."""

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

from ivit_helpers.device import dtype_name
from ivit_helpers.errors import InputError
from ivit_helpers.weights.formats import published_names
from ivit_helpers.weights.pickles import read_pickle

LFS_POINTER = b"version https://git-lfs"


def check_beginning(path: Path) -> None:
    """Raise InputError for a file that, by its length or its first bytes, is something else than weights."""
    with path.open("rb") as file:
        beginning = file.read(512)
    if not beginning:
        raise InputError(f"{path} is empty: download it again.")
    if beginning.startswith(LFS_POINTER):
        raise InputError(f"{path} is a git-LFS pointer, not the weights: run `git lfs pull` in its folder, or download it from the hub.")
    if beginning.lstrip()[:1] == b"<":
        raise InputError(f"{path} is a web page, not the weights: download it again, after logging in if the page asks for it.")


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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises InputError."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path.parent} has no {path.name}: is it a complete copy of the published folder?") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): download the file again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a JSON object: download the file again.")
    return content


def files_of(folder: Path) -> tuple[Path, ...]:
    """The weight files of a model folder: safetensors if there are any, else pickles.

    Raises InputError for files that are missing, that the index does not name, or that `check_file` refuses.
    """
    for stem, suffix in STEMS:
        index, single = folder / f"{stem}{suffix}.index.json", folder / f"{stem}{suffix}"
        if not (index.exists() or single.exists()):
            continue
        files = _indexed(index, f"{stem}-*{suffix}") if index.exists() else (single,)
        for file in files:
            check_file(file)
        return files
    wanted = ", ".join(f"{stem}{suffix} or its index" for stem, suffix in STEMS)
    raise InputError(f"{folder} holds no weights: it needs {wanted}.")


def _indexed(index: Path, pattern: str) -> tuple[Path, ...]:
    folder, names = index.parent, sorted(set(_weight_map(index).values()))
    outside = [name for name in names if Path(name).name != name]
    if outside or not names:
        raise InputError(f"{index} names {', '.join(outside) or 'no shards'}: a shard must be a file of this folder.")
    if missing := [name for name in names if not (folder / name).exists()]:
        raise InputError(f"{folder} lacks {', '.join(missing)}, named in {index.name}: download the missing shards.")
    if unknown := sorted(path.name for path in folder.glob(pattern) if path.name not in names):
        raise InputError(
            f"{folder} holds {', '.join(unknown)}, which {index.name} does not name: the files seem to be of two versions, "
            "download one version again."
        )
    return tuple(folder / name for name in names)


def _weight_map(index: Path) -> dict[str, str]:
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(file, str) for file in found.values()):
        raise InputError(f"{index} has no weight_map of file names: download the file again.")
    return found


def check_file(path: Path) -> None:
    """Raise InputError for a file that is not weights, or is incomplete, by its first and last bytes; reads a few kilobytes."""
    check_beginning(path)
    if path.suffix in PICKLED and not zipfile.is_zipfile(path):
        raise InputError(f"{path} cannot be read as weights (its end is missing, or torch.save did not write it): download it again.")
    if path.suffix == ".safetensors":
        _check_safetensors(path)


def _check_safetensors(path: Path) -> None:
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as weights ({error}): the file is damaged or incomplete, download it again.") from None


def _in_safetensors(path: Path) -> Iterator[tuple[str, Place]]:
    _check_safetensors(path)  # the library checks the header; it does not give the offsets
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if name.endswith(COUNTER):
            continue
        if entry["dtype"] not in DTYPES:
            raise InputError(_wrong_dtype(path, name, entry["dtype"]))
        yield name, Place(path, 8 + length + entry["data_offsets"][0], tuple(entry["shape"]), DTYPES[entry["dtype"]])


def _in_pickle(path: Path) -> Iterator[tuple[str, Place]]:
    tensors = published_names(read_pickle(path, published=path.suffix == ".bin"), path)
    for name, tensor in tensors.items():
        if name.endswith(COUNTER):
            continue
        if tensor.dtype not in DTYPES.values():
            raise InputError(_wrong_dtype(path, name, dtype_name(tensor.dtype)))
        if not tensor.is_contiguous():
            raise InputError(f"{path} stores {name} as a tensor that is not contiguous: save it again after .contiguous().")
        storage: Any = tensor.untyped_storage()
        yield (
            name,
            Place(path, storage._checkpoint_offset + int(tensor.storage_offset()) * tensor.itemsize, tuple(tensor.shape), tensor.dtype),
        )


def _wrong_dtype(path: Path, name: str, dtype: str) -> str:
    return f"{path} stores {name} as {dtype}, and only floating-point weights can be loaded: give the original weights."


def places_in(path: Path) -> dict[str, Place]:
    """Every tensor of one weight file by its published name; reads names and shapes, no values. Raises InputError."""
    check_beginning(path)
    found = dict(_in_safetensors(path) if path.suffix == ".safetensors" else _in_pickle(path))
    size = path.stat().st_size
    for name, place in found.items():
        if place.offset + place.nbytes > size:
            raise InputError(f"{path} ends before its tensor {name} does: the file is incomplete, download it again.")
    return found


def places(files: Sequence[Path]) -> dict[str, Place]:
    """Every tensor of a folder's weight files, by name. Raises InputError for a tensor that is in two of the files."""
    found: dict[str, Place] = {}
    for name, place in chain.from_iterable(places_in(file).items() for file in files):
        if name in found:
            raise InputError(
                f"{name} is in {found[name].file.name} and in {place.file.name}: the files seem to be of two versions, "
                "download one version again."
            )
        found[name] = place
    return found


def check_index(files: Sequence[Path], found: Mapping[str, Place]) -> None:
    """Compare the tensors of a folder's weight files with their index, if there is one. Raises InputError where they disagree."""
    index = {suffix: files[0].parent / f"{stem}{suffix}.index.json" for stem, suffix in STEMS}.get(files[0].suffix)
    if index is None or not index.exists():
        return
    where, actual = _weight_map(index), {name: place.file.name for name, place in found.items()}
    wrong = [name for name in {**where, **actual} if where.get(name) != actual.get(name)]
    if wrong:
        name, more = wrong[0], f" (and {len(wrong) - 1} more tensors)" if len(wrong) > 1 else ""
        raise InputError(
            f"{index} places {name} in {where.get(name, 'no file')}, and it is in {actual.get(name, 'no file')}{more}: "
            "index and shards are of different versions, download them together."
        )
