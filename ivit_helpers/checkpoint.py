"""A folder, a file, a hub id, the embedded miniature, or nothing at all -> weights in a network on a device.

Only tensors and JSON are taken from a weights folder: pickles go through restricted unpicklers, no code is imported.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ivit_helpers import authors, gate, hub, operators, shards
from ivit_helpers.device import Device, dtype_name, host_peak, reset_host_peak
from ivit_helpers.errors import InputError
from ivit_helpers.head import FILES, Head, check_head, random_head, read_head
from ivit_helpers.images import EMBEDDED, ImageTransform
from ivit_helpers.integrity import sha256
from ivit_helpers.network import SHAPES, Classifier, InternViT, InternViTConfig
from ivit_helpers.random_weights import random_weights
from ivit_helpers.shards import Chunk, Place


@dataclass(frozen=True)
class Checkpoint:
    """Where weights come from, before any is read."""

    name: str
    config: InternViTConfig
    transform: ImageTransform
    published: Mapping[str, Any] = field(default_factory=dict)
    """The whole config.json; empty for random weights"""
    shards: tuple[Path, ...] = ()
    """Weight files in order; empty for random weights"""
    head: Path | None = None

    @property
    def is_random(self) -> bool:
        return not self.shards


@dataclass(frozen=True)
class Stored:
    """What the weight files hold."""

    dtypes: tuple[str, ...]
    """Empty for random weights"""
    ignored: int
    """Tensors of the authors' files that are not this network's"""


@dataclass(frozen=True)
class Loaded:
    """A network with its weights on a device, and what loading them took."""

    checkpoint: Checkpoint
    network: InternViT
    head: nn.Module
    """Last hidden state (B, N, C) -> logits (B, classes), on the device"""
    head_source: Head
    classes: tuple[str, ...]
    device: Device
    dtype: torch.dtype
    stored: Stored
    sha256: Mapping[str, str]
    """By file name, where it was asked for"""
    seconds: float
    host_peak_bytes: int | None
    device_peak_bytes: int | None
    kernel_verdicts: tuple[gate.Verdict, ...]
    fell_back: tuple[str, ...]
    """Operators that the device does not have and that ran on the CPU so far; each is told of once in a process"""

    @property
    def head_is_trained(self) -> bool:
        return self.head_source.file is not None

    @property
    def classifier(self) -> Classifier:
        return Classifier(self.network, self.head).eval()

    @property
    def parameters(self) -> int:
        return sum(tensor.numel() for tensor in self.network.state_dict().values())

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.network.state_dict().values())

    @property
    def stored_as(self) -> str:
        """The dtypes of the files, and what config.json says where that is another."""
        said = str(self.checkpoint.published.get("torch_dtype", self.checkpoint.published.get("dtype", "")))
        stored = ", ".join(self.stored.dtypes)
        return f"{stored} (config.json says {said})" if stored and said and said != stored else stored

    def described(self) -> dict[str, Any]:
        """What a record says of the model."""
        described = {
            "name": self.checkpoint.name,
            "parameters": self.parameters,
            "bytes": self.bytes,
            "tensors": len(self.network.state_dict()),
            "shards": len(self.checkpoint.shards),
            "dtype": dtype_name(self.dtype),
            "flops_per_image": self.network.config.flops_per_image,
            "image_size": self.network.config.image_size,
            "hidden_size": self.network.config.hidden_size,
            "layers": self.network.config.num_hidden_layers,
            **self.head_source.described(),
            "load_seconds": round(self.seconds, 3),
            "load_host_peak_bytes": self.host_peak_bytes,
            "kernels": self.network.kernels.name,
            "load_device_peak_bytes": self.device_peak_bytes if self.device.type != "cpu" else None,
        }
        if self.stored_as:
            described["stored_dtype"] = self.stored_as
        if self.stored.ignored:
            described["ignored_tensors"] = self.stored.ignored
        if self.sha256:
            described["sha256"] = [f"{file} {digest}" for file, digest in self.sha256.items()]
        return described


def _own_head(folder: Path) -> Path | None:
    return next((folder / name for name in FILES if (folder / name).exists()), None)


def _transform(folder: Path, config: InternViTConfig) -> ImageTransform:
    """The transform of a published model folder; the official one, at the network's size, where it has no preprocessor_config.json."""
    path = folder / "preprocessor_config.json"
    if not path.exists():
        return ImageTransform(config.image_size, config.image_size)
    try:
        return ImageTransform.from_json(shards.read_json(path))
    except (TypeError, ValueError, StopIteration):
        raise InputError(f"{path} does not hold the sizes, means and deviations of a processor: download the file again.") from None


def _random(model: str, shape: str, head: Path | None) -> Checkpoint:
    if shape not in SHAPES:
        raise InputError(f"model={model!r} is no known shape: it may be {', '.join(f'random:{name}' for name in SHAPES)}.")
    config = SHAPES[shape]
    return Checkpoint(model, config, ImageTransform(config.image_size, config.image_size), head=head)


def _in_folder(folder: Path, name: str, head: Path | None) -> Checkpoint:
    published = shards.read_json(folder / "config.json")
    config = InternViTConfig.from_json(published)
    return Checkpoint(
        name=name,
        config=config,
        transform=_transform(folder, config),
        published=published,
        shards=shards.files_of(folder),
        head=head or _own_head(folder),
    )


def _in_file(path: Path, head: Path | None) -> Checkpoint:
    """One of the authors' .pth files, or any one file of weights; its config is beside it or told from its tensors."""
    shards.check_file(path)
    beside = path.parent / "config.json"
    published = shards.read_json(beside) if beside.exists() else {}
    if published:
        config = InternViTConfig.from_json(published)
        transform = _transform(path.parent, config)
    else:
        config = authors.config_of({name: place.shape for name, place in shards.places_in(path).items()}, path)
        transform = ImageTransform(config.image_size, config.image_size)
    return Checkpoint(path.stem, config, transform, published, (path,), head or _own_head(path.parent))


def find(model: str, head: str = "") -> Checkpoint:
    """The checkpoint that the `model` parameter names, with the head that `head` names; reads configuration only, no weights.

    A hub id is brought to this machine first. Raises InputError for an unknown random shape, a model that is not there, one without
    config or weights, and for weight files that are missing, superfluous or no weights by their first bytes.
    """
    head_file = Path(head).expanduser() if head else None
    if head_file:
        check_head(head_file)
    kind, _, shape = model.partition(":")
    if kind == "random":
        return _random(model, shape, head_file)
    if model == "tiny":
        return _in_folder(EMBEDDED / "tiny-internvit", "tiny-internvit", head_file)
    place = Path(model).expanduser()
    if place.is_file():
        return _in_file(place, head_file)
    if hub.is_id(model):
        return _in_folder(hub.download(model), place.name, head_file)
    if not place.is_dir():
        raise InputError(f"model={model!r} is no folder on this machine: give the path of a model folder, 'tiny' or 'random:6b-224'.")
    return _in_folder(place, place.resolve().name, head_file)


def check(model: str, head: str = "") -> None:
    """What can be told of `model` and `head` before a notebook starts, without a network; raises InputError as `find` does."""
    place = Path(model)
    if hub.is_id(model) and place.parent.is_dir():
        raise InputError(f"model={model!r}: the folder {place.parent} is here and holds no {place.name}: correct the path.")
    find("tiny" if hub.is_id(model) else model, head)


def _check_names(found: Mapping[str, Place], expected: Mapping[str, Tensor], name: str) -> None:
    """Raise InputError naming every tensor that is missing, unexpected or wrongly shaped."""
    problems = [f"{key} is missing" for key in expected if key not in found]
    problems += [f"{key} is unexpected (in {place.file.name})" for key, place in found.items() if key not in expected]
    problems += [
        f"{key} (in {found[key].file.name}) has shape {found[key].shape} where config.json implies {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tuple(tensor.shape)
    ]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise InputError(f"The weights of {name} do not fit its config.json: {'; '.join(problems[:5])}{more}.")


def _read_weights(places: Mapping[str, Place], device: Device, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors, scanned for damage: memory-mapped where they can stay as they are, else each sent to the device as it is read."""
    stay = device.type == "cpu" and all(place.dtype == dtype for place in places.values())
    if stay:
        tensors = shards.mapped(places)
    else:
        tensors = {name: torch.empty(place.shape, dtype=dtype, device=device.torch_device) for name, place in places.items()}

    def keep(chunk: Chunk) -> None:
        part = tensors[chunk.name].view(-1)[chunk.begin : chunk.begin + len(chunk.values)]
        part.copy_(chunk.values.to(device.torch_device))  # cast there

    shards.scanned(places, (lambda _: None) if stay else keep, dtype)
    return tensors


def check_memory(checkpoint: Checkpoint, device: Device, dtype: torch.dtype) -> None:
    """Say before anything is loaded, by an InputError, that the weights alone are more than the memory that is free."""
    with torch.device("meta"):
        expected = InternViT(checkpoint.config).state_dict()
    needed, free = sum(tensor.numel() for tensor in expected.values()) * dtype.itemsize, device.available_memory()
    if needed > free:
        raise InputError(
            f"{checkpoint.name} needs {needed / 2**30:.1f} GiB for its weights in {dtype_name(dtype)}, and {device} has "
            f"{free / 2**30:.1f} GiB free: free memory, choose another card, or use a 16-bit dtype."
        )


def _tensors(
    checkpoint: Checkpoint, expected: Mapping[str, Tensor], device: Device, dtype: torch.dtype
) -> tuple[dict[str, Tensor], Stored]:
    """The network's tensors on the device, and what the files were found to hold."""
    if checkpoint.is_random:
        return random_weights(checkpoint.name, expected, device, dtype), Stored((), 0)
    found = shards.places(checkpoint.shards)
    places = {name: place for name, place in found.items() if not name.startswith(authors.IGNORED)}
    _check_names(places, expected, checkpoint.name)
    shards.check_index(checkpoint.shards, found)
    dtypes = tuple(sorted({dtype_name(place.dtype) for place in places.values()}))
    return _read_weights(places, device, dtype), Stored(dtypes, len(found) - len(places))


def load(checkpoint: Checkpoint, device: Device, dtype: torch.dtype, verify: bool = False) -> Loaded:
    """Read or make the weights, straight to the device, into a network with the device's fused kernels, those that the gate trusts.

    `verify` computes the SHA-256 of every file, for the record. Host memory beyond the final network is the 64 MiB read ahead.
    Raises InputError when the weights are damaged, or do not fit the config or the memory.
    """
    check_memory(checkpoint, device, dtype)
    with operators.standard_error() as lines:
        kernels, verdicts = gate.trusted(checkpoint.config, device, dtype)
        with torch.device("meta"):
            network = InternViT(checkpoint.config, kernels)
        digests = {file.name: sha256(file) for file in checkpoint.shards} if verify else {}
        reset_host_peak()
        device.reset_peak_memory()
        began = time.perf_counter()
        try:
            tensors, stored = _tensors(checkpoint, network.state_dict(), device, dtype)
        except InputError as error:
            seen = ", ".join(f"{name} {digest}" for name, digest in digests.items())
            raise InputError(f"{error} SHA-256 here: {seen}." if seen else str(error)) from None
        network.load_state_dict(tensors, strict=True, assign=True)
        width = checkpoint.config.hidden_size
        head = read_head(checkpoint.head, width) if checkpoint.head else random_head(width)
        device.synchronize()
    return Loaded(
        checkpoint=checkpoint,
        network=network.eval().requires_grad_(False),
        head=head.module.to(device.torch_device).eval().requires_grad_(False),
        head_source=head,
        classes=head.classes,
        device=device,
        dtype=dtype,
        stored=stored,
        sha256=digests,
        seconds=time.perf_counter() - began,
        host_peak_bytes=host_peak(),
        device_peak_bytes=device.peak_memory(),
        kernel_verdicts=verdicts,
        fell_back=tuple(operators.fell_back(lines)),
    )
