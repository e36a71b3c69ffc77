"""A folder, an embedded miniature, or nothing at all -> weights in a network on a device.

Only tensors and JSON are taken from a weights folder: pickles are read by torch's restricted unpickler, no code is imported.
"""

import json
import math
import pickle
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from ivit_helpers import gate, operators
from ivit_helpers.device import Device, dtype_name, host_peak, reset_host_peak
from ivit_helpers.errors import InputError
from ivit_helpers.images import EMBEDDED, ImageTransform, read_transform
from ivit_helpers.network import SHAPES, ClassificationHead, Classifier, InternViT, InternViTConfig

HEAD_FILE = "classification_head.safetensors"
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLES = ("model.safetensors", "pytorch_model.bin")


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
class Loaded:
    """A network with its weights on a device, and what loading them took."""

    checkpoint: Checkpoint
    network: InternViT
    head: ClassificationHead
    head_is_trained: bool
    classes: tuple[str, ...]
    device: Device
    dtype: torch.dtype
    seconds: float
    host_peak_bytes: int | None
    device_peak_bytes: int | None
    kernel_verdicts: tuple[gate.Verdict, ...]
    fell_back: tuple[str, ...]
    """Operators that the device does not have and that ran on the CPU so far; each is told of once in a process"""

    @property
    def classifier(self) -> Classifier:
        return Classifier(self.network, self.head).eval()

    @property
    def parameters(self) -> int:
        return sum(tensor.numel() for tensor in self.network.state_dict().values())

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.network.state_dict().values())

    def described(self) -> dict[str, Any]:
        """What a record says of the model."""
        return {
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
            "classes": len(self.classes),
            "head_is_trained": self.head_is_trained,
            "load_seconds": round(self.seconds, 3),
            "load_host_peak_bytes": self.host_peak_bytes,
            "kernels": self.network.kernels.name,
            "load_device_peak_bytes": self.device_peak_bytes if self.device.type != "cpu" else None,
        }


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path.parent} has no {path.name}: is it a complete copy of the published folder?") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): download the file again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a JSON object: download the file again.")
    return content


def _shards(folder: Path) -> tuple[Path, ...]:
    for name in INDEXES:
        if (folder / name).exists():
            files = sorted(set(_json(folder / name).get("weight_map", {}).values()))
            outside = [file for file in files if Path(file).name != file]
            if outside or not files:
                raise InputError(f"{folder / name} names {outside or 'no shards'}: a shard must be a file of this folder.")
            missing = [file for file in files if not (folder / file).exists()]
            if missing:
                raise InputError(f"{folder} lacks {', '.join(missing)}, named in {name}: download the missing shards.")
            return tuple(folder / file for file in files)
    singles = [folder / name for name in SINGLES if (folder / name).exists()]
    if not singles:
        raise InputError(f"{folder} holds no weights: expected one of {', '.join(INDEXES + SINGLES)}.")
    return (singles[0],)


def find(model: str) -> Checkpoint:
    """The checkpoint that the `model` parameter names; reads configuration only, no weights.

    Raises InputError for an unknown random shape, a folder that is not there, or one without config or weights.
    """
    kind, _, shape = model.partition(":")
    if kind == "random":
        if shape not in SHAPES:
            raise InputError(f"model={model!r} is no known shape: it may be {', '.join(f'random:{name}' for name in SHAPES)}.")
        config = SHAPES[shape]
        return Checkpoint(model, config, ImageTransform(config.image_size, config.image_size))
    folder = EMBEDDED / "tiny-internvit" if model == "tiny" else Path(model).expanduser()
    if not folder.is_dir():
        raise InputError(f"model={model!r} is no folder on this machine: give the path of a model folder, 'tiny' or 'random:6b-224'.")
    published = _json(folder / "config.json")
    head = folder / HEAD_FILE
    return Checkpoint(
        name="tiny-internvit" if model == "tiny" else folder.resolve().name,
        config=InternViTConfig.from_json(published),
        transform=read_transform(folder),
        published=published,
        shards=_shards(folder),
        head=head if head.exists() else None,
    )


def _tensors_of(shard: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of one shard, memory-mapped, with its name."""
    try:
        if shard.suffix == ".safetensors":
            with safe_open(shard, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  safe_open is no mapping
                    yield name, file.get_tensor(name)
        else:
            yield from torch.load(shard, map_location="cpu", weights_only=True, mmap=True).items()
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{shard} cannot be read as weights ({reason}): the file is damaged or incomplete, download it again.") from None


def _check_names(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str) -> None:
    """Raise InputError naming every tensor that is missing, unexpected or wrongly shaped."""
    problems = [f"{key} is missing" for key in expected if key not in found]
    problems += [f"{key} is unexpected" for key in found if key not in expected]
    problems += [
        f"{key} has shape {tuple(found[key].shape)} where config.json implies {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tensor.shape
    ]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise InputError(f"The weights of {name} do not fit its config.json: {'; '.join(problems[:5])}{more}.")


def _read_weights(checkpoint: Checkpoint, expected: Mapping[str, Tensor], device: Device, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of all shards, each moved to the device as it is read."""
    tensors: dict[str, Tensor] = {}
    with tqdm(total=len(expected), desc="loading weights", unit="tensor", leave=False, delay=1) as progress:
        for shard in checkpoint.shards:
            for name, tensor in _tensors_of(shard):
                tensors[name] = tensor.to(device.torch_device).to(dtype)
                progress.update()
    _check_names(tensors, expected, checkpoint.name)
    return tensors


def _random_tensor(name: str, like: Tensor, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Weights under which activations keep their size and no two tensors are alike, so that a mix-up of tensors shows."""
    centre, spread = 0.0, 0.02
    if name.endswith(("ls1", "ls2")):
        centre = 0.1
    elif "norm" in name and name.endswith("weight"):
        centre, spread = 1.0, 0.1
    elif name.endswith("weight"):
        spread = math.prod(like.shape[1:]) ** -0.5
    return torch.empty(like.shape, dtype=dtype, device=generator.device).normal_(centre, spread, generator=generator)


def _random_weights(checkpoint: Checkpoint, expected: Mapping[str, Tensor], device: Device, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator(device.torch_device).manual_seed(0)
    names = tqdm(expected, desc=f"making {checkpoint.name}", unit="tensor", leave=False, delay=1)
    return {name: _random_tensor(name, expected[name], generator, dtype) for name in names}


def _head(checkpoint: Checkpoint, device: Device) -> tuple[ClassificationHead, tuple[str, ...]]:
    """The folder's trained head, or a random one of the official shape with 1000 classes."""
    width = checkpoint.config.hidden_size
    if checkpoint.head is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            head = ClassificationHead(width, 1000)
        names = tuple(f"class {number}" for number in range(1000))
    else:
        tensors = dict(_tensors_of(checkpoint.head))
        with safe_open(checkpoint.head, framework="pt") as file:
            names = tuple(json.loads((file.metadata() or {}).get("classes", "[]")))
        count = len(tensors.get("head.bias", names))
        with torch.device("meta"):
            head = ClassificationHead(width, count)
        _check_names(tensors, head.state_dict(), checkpoint.head.name)
        head.load_state_dict(tensors, strict=True, assign=True)
        names = names or tuple(f"class {number}" for number in range(count))
    return head.to(device.torch_device).eval().requires_grad_(False), names


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


def load(checkpoint: Checkpoint, device: Device, dtype: torch.dtype) -> Loaded:
    """Read or make the weights, straight to the device, into a network with the device's fused kernels.

    Raises InputError when they do not fit the config or the memory.
    """
    check_memory(checkpoint, device, dtype)
    with operators.standard_error() as lines:
        kernels, verdicts = gate.trusted(checkpoint.config, device, dtype)
        with torch.device("meta"):
            network = InternViT(checkpoint.config, kernels)
        reset_host_peak()
        device.reset_peak_memory()
        began = time.perf_counter()
        read = _random_weights if checkpoint.is_random else _read_weights
        network.load_state_dict(read(checkpoint, network.state_dict(), device, dtype), strict=True, assign=True)
        head, classes = _head(checkpoint, device)
        device.synchronize()
    return Loaded(
        checkpoint=checkpoint,
        network=network.eval().requires_grad_(False),
        head=head,
        head_is_trained=checkpoint.head is not None,
        classes=classes,
        device=device,
        dtype=dtype,
        seconds=time.perf_counter() - began,
        host_peak_bytes=host_peak(),
        device_peak_bytes=device.peak_memory(),
        kernel_verdicts=verdicts,
        fell_back=tuple(operators.fell_back(lines)),
    )
