"""Weight files: which a folder has, and where each tensor is in them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
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
from ivit_helpers.weights.pickles import check_archive, read_state_dict

LFS_POINTER = b"version https://git-lfs"


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


STEMS = (("model", ".safetensors"), ("pytorch_model", ".bin"))
"""Names of the published weight files, the preferred kind first"""
PICKLED = (".bin", ".pth", ".pt")
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""What weights may be stored in, by safetensors' names"""
COUNTER = "num_batches_tracked"
"""Of a BatchNorm's training: a whole number, of no use in inference"""


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in a file, contiguous, and of what kind it is."""

    file: Path
    offset: int
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


def tensors_of(folder: Path) -> dict[str, Path]:
    """The weight file of each tensor of a model folder, by stored name; safetensors before pickles. Opens no shard.

    Raises InputError for an index that names no files of the folder, and for shards that the index does not know.
    """
    for stem, suffix in STEMS:
        index, single = folder / f"{stem}{suffix}.index.json", folder / f"{stem}{suffix}"
        if index.exists():
            return _indexed(index, f"{stem}-*{suffix}")
        if single.exists():
            return dict.fromkeys(shapes_of([single]), single)
    wanted = ", ".join(f"{stem}{suffix} or its index" for stem, suffix in STEMS)
    raise InputError(f"{folder} holds no weights: expected {wanted}.")


def files_of(tensors: Mapping[str, Path], prefix: str = "") -> tuple[Path, ...]:
    """The files that hold tensors whose stored name begins with `prefix`, in order.

    Raises InputError for missing ones, and ones that are no weights by their first and last bytes.
    """
    files = tuple(sorted({file for name, file in tensors.items() if name.startswith(prefix)}))
    if missing := [file for file in files if not file.exists()]:
        names = ", ".join(file.name for file in missing)
        raise InputError(f"{missing[0].parent} lacks {names}, named in its index: download the missing shards.")
    for file in files:
        check_file(file)
    return files


def _indexed(index: Path, pattern: str) -> dict[str, Path]:
    folder, where = index.parent, _weight_map(index)
    names = sorted(set(where.values()))
    outside = [name for name in names if Path(name).name != name]
    if outside or not names:
        raise InputError(f"{index} names {outside or 'no shards'}: a shard must be a file of this folder.")
    if unknown := sorted(path.name for path in folder.glob(pattern) if path.name not in names):
        raise InputError(
            f"{folder} holds {', '.join(unknown)}, which {index.name} does not name: two versions seem to be mixed, download one anew."
        )
    return {name: folder / file for name, file in where.items()}


def _weight_map(index: Path) -> dict[str, str]:
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(file, str) for file in found.values()):
        raise InputError(f"{index} has no weight_map of file names: download the file again.")
    return found


def check_file(path: Path) -> None:
    """Name what is wrong with a weight file by its first and last bytes; reads a few kilobytes. Raises InputError."""
    check_beginning(path)
    if path.suffix in PICKLED:
        check_archive(path)
    if path.suffix == ".safetensors":
        _header(path)


def _header(path: Path) -> dict[str, Any]:
    """The tensors' entries in a safetensors header, checked by the library, with the header's own length under ""."""
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as weights ({error}): the file is damaged or incomplete, download it again.") from None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries: dict[str, Any] = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return {"": 8 + length, **entries}


def shapes_of(files: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of some weight files by stored name; reads no values. Raises InputError."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        check_file(path)
        if path.suffix == ".safetensors":
            shapes |= {name: tuple(entry["shape"]) for name, entry in _header(path).items() if name}
        else:
            shapes |= {name: tuple(tensor.shape) for name, tensor in read_state_dict(path).items()}
    return shapes


def _in_safetensors(path: Path, prefix: str) -> dict[str, Place]:
    header = _header(path)
    begin, found = header.pop(""), {}
    for name, entry in header.items():
        if name.endswith(COUNTER) or not name.startswith(prefix):
            continue
        if entry["dtype"] not in DTYPES:
            raise InputError(_wrong_dtype(path, name, entry["dtype"]))
        found[name] = Place(path, begin + entry["data_offsets"][0], tuple(entry["shape"]), DTYPES[entry["dtype"]])
    return found


def _in_pickle(path: Path, prefix: str) -> dict[str, Place]:
    found = {}
    for name, tensor in read_state_dict(path).items():
        if name.endswith(COUNTER) or not name.startswith(prefix):
            continue
        if tensor.dtype not in DTYPES.values():
            raise InputError(_wrong_dtype(path, name, dtype_name(tensor.dtype)))
        if not tensor.is_contiguous():
            raise InputError(f"{path} stores {name} with gaps: save it again after .contiguous().")
        storage: Any = tensor.untyped_storage()
        offset = storage._checkpoint_offset + int(tensor.storage_offset()) * tensor.itemsize
        found[name] = Place(path, offset, tuple(tensor.shape), tensor.dtype)
    return found


def _wrong_dtype(path: Path, name: str, dtype: str) -> str:
    return f"{path} stores {name} as {dtype}, where weights are float32, float16 or bfloat16: give the original weights."


def places_in(path: Path, prefix: str = "") -> dict[str, Place]:
    """The tensors of one weight file whose stored name begins with `prefix`; reads names and shapes, no values. Raises InputError."""
    check_beginning(path)
    found = _in_safetensors(path, prefix) if path.suffix == ".safetensors" else _in_pickle(path, prefix)
    size = path.stat().st_size
    for name, place in found.items():
        if place.offset + place.nbytes > size:
            raise InputError(f"{path} ends before its tensor {name} does: the file is incomplete, download it again.")
    return found


def places(files: Sequence[Path], prefix: str = "") -> dict[str, Place]:
    """The tensors of a folder's weight files whose stored name begins with `prefix`. Raises InputError for one that lies in two of them."""
    found: dict[str, Place] = {}
    for name, place in chain.from_iterable(places_in(file, prefix).items() for file in files):
        if name in found:
            raise InputError(
                f"{name} lies in {found[name].file.name} and in {place.file.name}: two versions seem to be mixed, download one anew."
            )
        found[name] = place
    return found


def check_index(files: Sequence[Path], found: Mapping[str, Place], prefix: str = "") -> None:
    """Hold the tensors whose stored name begins with `prefix` against the index of their folder, where there is one.

    Raises InputError where they disagree.
    """
    known = [files[0].parent / f"{stem}{suffix}.index.json" for stem, suffix in STEMS if files[0].suffix == suffix]
    for index in filter(Path.exists, known):
        _compare(index, found, prefix)


def _compare(index: Path, found: Mapping[str, Place], prefix: str) -> None:
    where = {name: file for name, file in _weight_map(index).items() if name.startswith(prefix) and not name.endswith(COUNTER)}
    actual = {name: place.file.name for name, place in found.items()}
    wrong = [name for name in {**where, **actual} if where.get(name) != actual.get(name)]
    if wrong:
        name, more = wrong[0], f" (and {len(wrong) - 1} more tensors)" if len(wrong) > 1 else ""
        raise InputError(
            f"{index} places {name} in {where.get(name, 'no file')}, and it lies in {actual.get(name, 'none')}{more}: "
            "index and shards are of different versions, download them together."
        )
