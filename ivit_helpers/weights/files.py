"""Weight files: which of them a folder has, what they hold, and whether it is damaged. Of a file only tensors are read.

`torch.load(weights_only=True, mmap=True)` and `safe_open` are the boundary: neither runs code of a file, and both map
its tensors into memory, so that nothing is copied until it is used. Measured against a reader of our own that mapped
each tensor alone: five times as fast from the system's cache; mapped pages count as memory of the process until the
system takes them back.
"""

import hashlib
import json
import math
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.serialization import safe_globals

from ivit_helpers.device.device import dtype_name
from ivit_helpers.errors import InputError, first_line
from ivit_helpers.record.progress import Progress
from ivit_helpers.weights.names import Naming, naming_of

STEMS = (("model", ".safetensors"), ("pytorch_model", ".bin"))
"""(stem, suffix) of the published weight files, in order of preference"""
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
WRAPPERS = ("module", "model", "state_dict")
"""Keys under which a training checkpoint holds its tensors"""
INERT: list[Any] = [(OrderedDict, "yacs.config.CfgNode"), (set, "builtins.set"), (frozenset, "builtins.frozenset")]
"""(what it becomes, the name in the file), beside what torch allows: the official head holds its training configuration"""
COUNTER = "num_batches_tracked"
"""Ends the name of an integer that BatchNorm counts in training"""
BLOCK_BYTES = 2**18
"""What is scanned at a time, and how large a hole of zeros is noticed"""
PAGE_BYTES = 4096
LISTED = 5


def listed(names: Collection[str]) -> str:
    """The first five of some names, and how many more there are."""
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(list(names)[:LISTED]) + more


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises InputError where the file is missing, unreadable or something else."""
    if not path.exists():
        raise InputError(f"{path.parent} has no {path.name}: is it a complete copy of the published folder?")
    check_beginning(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): download the file again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a JSON object: download the file again.")
    return content


def check_beginning(path: Path) -> None:
    """Raise InputError for a file that is empty or that, by its first bytes, stands for a file that was not downloaded."""
    with path.open("rb") as file:
        beginning = file.read(512)
    if not beginning:
        raise InputError(f"{path} is empty: download it again.")
    if beginning.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{path} is a git-LFS pointer, not the file itself: run `git lfs pull` in its folder, or download it from "
            "the hub."
        )
    if re.match(rb"\s*<[!?a-zA-Z]", beginning):  # a safetensors header may begin with a space and a `<`, too
        raise InputError(
            f"{path} is a web page, not the file itself: download it again, after logging in if the page asks for it."
        )


def tensors_in(path: Path) -> dict[str, Tensor]:
    """The tensors of one weight file by stored name, mapped into memory and not read yet.

    Raises InputError for a file that is damaged or incomplete, or that holds anything but tensors and plain values.
    """
    check_beginning(path)
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
        with safe_globals(INERT), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocol 3
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        reason = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it asks for {reason[1]}" if reason else "torch's restricted reader refuses it"
        raise InputError(
            f"{path} is refused: {what}, or it is damaged; give a file that holds weights only, or download it again."
        ) from None
    except (
        SafetensorError,
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
        AttributeError,
        TypeError,
        IndexError,
    ) as error:
        raise InputError(
            f"{path} cannot be read as weights ({first_line(error)[:200]}): the file is damaged or incomplete, or "
            "torch.save did not write it; download it again."
        ) from None
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items())
    ):
        wrappers = " or ".join(map(repr, WRAPPERS))
        raise InputError(f"{path} holds no state dict (names and tensors, or those under {wrappers}).")
    return dict(content)


@dataclass(frozen=True)
class StoredTensors:
    """The tensors of a model's weight files, mapped into memory and not read yet."""

    naming: Naming
    tensors: Mapping[str, Tensor]
    """By stored name, those under the network's prefix"""
    places: Mapping[str, Path]
    """The file of each"""

    @property
    def files(self) -> tuple[Path, ...]:
        """The weight files, in order."""
        return tuple(sorted(set(self.places.values())))


def open_weights(source: Path, hint: str = "") -> StoredTensors:
    """Open the weight files of a model folder, or one weight file: safetensors where there are any, else pickles.

    Of a larger model only the shards with its vision network are opened. hint: what else is known of the model, for an
    error. Raises InputError for missing, superfluous and damaged files, and where an index and its files disagree.
    """
    index, single = (None, source) if source.is_file() else _weight_files(source)
    if index is None:
        tensors = tensors_in(single)
        naming = naming_of(tensors, source, hint)
        own = {name: tensor for name, tensor in tensors.items() if _is_weight(name, naming.prefix)}
        return StoredTensors(naming, own, dict.fromkeys(own, single))
    places = weight_map(index)
    naming = naming_of(places, source, hint)
    wanted = {name: file for name, file in places.items() if _is_weight(name, naming.prefix)}
    files = sorted(set(wanted.values()))
    if missing := [file.name for file in files if not file.exists()]:
        raise InputError(f"{source} lacks {listed(missing)}, named in its index: download the missing shards.")
    tensors = {}
    actual: dict[str, Path] = {}
    for file in files:
        for name, tensor in tensors_in(file).items():
            if _is_weight(name, naming.prefix):
                if name in actual:
                    raise InputError(
                        f"{name} is in {actual[name].name} and in {file.name}: the files seem to be of two versions, "
                        "download one version again."
                    )
                tensors[name], actual[name] = tensor, file
    if wrong := [name for name in {**wanted, **actual} if wanted.get(name) != actual.get(name)]:
        said, seen = ((where[wrong[0]].name if wrong[0] in where else "no file") for where in (wanted, actual))
        more = f" (and {len(wrong) - 1} more tensors)" if len(wrong) > 1 else ""
        raise InputError(
            f"{index} places {wrong[0]} in {said}, and it is in {seen}{more}: index and shards are of different "
            "versions, download them together."
        )
    return StoredTensors(naming, tensors, actual)


def _is_weight(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and not name.endswith(COUNTER)


def _weight_files(folder: Path) -> tuple[Path | None, Path]:
    """The index of a folder's weights, or None, and the name of the single file in its place."""
    for stem, suffix in STEMS:
        index, single = folder / f"{stem}{suffix}.index.json", folder / f"{stem}{suffix}"
        if index.exists():
            return index, single
        if single.exists():
            return None, single
    wanted = ", ".join(f"{stem}{suffix} or its index" for stem, suffix in STEMS)
    raise InputError(f"{folder} holds no weights: it needs {wanted}.")


def weight_map(index: Path) -> dict[str, Path]:
    """The shard of each tensor by stored name, as an index says; they may not be there yet.

    Raises InputError for an index without shards, or that names other files, and for shards that it does not name.
    """
    single = index.with_name(index.name.removesuffix(".index.json"))
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise InputError(f"{index} has no weight_map of file names: download the file again.")
    if outside := [name for name in files.values() if Path(name).name != name or Path(name).suffix != single.suffix]:
        raise InputError(
            f"{index} names {outside[0]!r}: a shard must be a file of this folder, and end in {single.suffix}."
        )
    shards = {path.name for path in index.parent.glob(f"{single.stem}-*{single.suffix}")}
    if unknown := shards - set(files.values()):
        raise InputError(
            f"{index.parent} holds {listed(sorted(unknown))}, which {index.name} does not name: the files seem to be "
            "of two versions, download one version again."
        )
    return {name: index.parent / file for name, file in files.items()}


def check_values(name: str, tensor: Tensor, source: Path, dtype: torch.dtype) -> None:
    """Read a tensor once; raise InputError where it is damaged, or holds a value that `dtype` cannot.

    An interrupted download leaves zeros in a file of the right length, which safetensors and torch accept: a tensor
    (other than a bias) that is all zeros, a whole block of zeros, a last page of zeros. `aminmax` of a block also shows
    what is not finite.
    """
    if not tensor.is_floating_point():
        raise InputError(
            f"{source} stores {name} as {dtype_name(tensor.dtype)}, and only floating-point weights can be loaded: "
            "give the original weights."
        )
    values, largest, hole = tensor.flatten(), 0.0, None
    step = BLOCK_BYTES // tensor.itemsize
    for number, block in enumerate(values.split(step)):
        if not len(block):
            continue
        low, high = (float(bound) for bound in block.aminmax())
        if not math.isfinite(low) or not math.isfinite(high):
            raise _damaged(source, name, f"holds {int((~values.isfinite()).sum()):,} values that are not finite")
        if low == high == 0 and len(block) == step and hole is None:
            hole = number * step
        largest = max(largest, -low, high)
    if not largest:
        if len(values) and not name.endswith("bias"):
            raise _damaged(source, name, "is all zeros")
        return
    page = PAGE_BYTES // tensor.itemsize
    if len(values) >= page and not values[-page:].any():
        raise _damaged(source, name, "ends in a page of zeros")
    if hole is not None:
        raise _damaged(source, name, f"holds only zeros in the {BLOCK_BYTES:,} bytes from its value {hole:,} on")
    if largest > torch.finfo(dtype).max:
        advice = "run with dtype='bfloat16' or dtype='float32'" if dtype == torch.float16 else "correct the tensor"
        raise InputError(f"{name} in {source} holds {largest:.3g}, which {dtype_name(dtype)} cannot: {advice}.")


def _damaged(source: Path, name: str, fault: str) -> InputError:
    return InputError(
        f"{source} is damaged: {name} {fault}; download the file again and compare its SHA-256 (verify=true)."
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
