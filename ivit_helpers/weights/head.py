"""Classification heads: the official one, this project's, a plain Linear, or none; each becomes one Linear."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ivit_helpers.errors import InputError
from ivit_helpers.model.network import ClassificationHead
from ivit_helpers.weights.files import COUNTER, check_values, listed, sha256, tensors_in
from ivit_helpers.weights.names import AUTHORS, CLASS_TOKEN, head_names, naming_of, refuse_attention_pooling
from ivit_helpers.weights.sources import HEAD_FILES

PUBLISHED_SHA256 = "87201a460ecfc5fa6b2a119a5c17acabb6752e00a99f73857f95b3545f7d8ab9"
"""intern_vit_6b_224px_head.pth of the hub repository OpenGVLab/InternVL"""
RANDOM_CLASSES = 1000


class LinearHead(nn.Module):
    """Last hidden state (B, N, C) -> logits (B, classes), in float32, by one Linear.

    Over C features, the class token, or over 2 C, the class token and the mean patch token side by side.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.head = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        self.head.load_state_dict({"weight": weight.float(), "bias": bias.float()}, assign=True)

    def forward(self, hidden: Tensor) -> Tensor:
        features = ClassificationHead.pooled(hidden)
        logits: Tensor = self.head(features[:, : self.head.in_features])
        return logits


@dataclass(frozen=True)
class Head:
    """A head in memory and where it came from."""

    module: LinearHead
    classes: tuple[str, ...]
    kind: str
    file: Path | None = None
    sha256: str = ""

    @property
    def is_the_published_one(self) -> str | None:
        """In words; None where there is no file."""
        if self.file is None:
            return None
        return "yes" if self.sha256 == PUBLISHED_SHA256 else "no, by its SHA-256"


def folded(head: ClassificationHead) -> LinearHead:
    """The same head with its BatchNorm folded into its Linear, computed in float64."""
    norm, weight, bias = head.norm, head.head.weight.double(), head.head.bias.double()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    return LinearHead((weight * scale).detach(), (bias + weight @ shift).detach())


def random_head(hidden_size: int) -> Head:
    """A random head of the official shape. It serves timing and the pipeline; its answers mean nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = folded(ClassificationHead(hidden_size, RANDOM_CLASSES).eval())
    return Head(module, unnamed_classes(RANDOM_CLASSES), "none: random numbers in its place")


def unnamed_classes(count: int) -> tuple[str, ...]:
    """What the classes of a head without class names are called."""
    return tuple(f"class {number}" for number in range(count))


def missing_head(image_set: str) -> InputError:
    """The error for a published image set that is to be scored without a trained head."""
    return InputError(
        f"image_set={image_set!r} needs a trained head, and there is none beside the weights: put {HEAD_FILES[1]} "
        "(hub repository OpenGVLab/InternVL) there, or give head=FILE."
    )


def head_classes(path: Path | None) -> tuple[str, ...]:
    """The names of a head's classes in the order of its outputs; None: the random head. Reads no weights."""
    if path is None:
        return unnamed_classes(RANDOM_CLASSES)
    matrices = [tensor for tensor in _head_tensors(path).values() if tensor.ndim == 2]
    return _class_names(path) or unnamed_classes(max((len(matrix) for matrix in matrices), default=0))


def _head_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a head file; of a training checkpoint, which holds the network too, those of its head."""
    tensors = tensors_in(path)
    refuse_attention_pooling(tensors, path)
    if any(name.endswith(AUTHORS.names(CLASS_TOKEN)[0]) for name in tensors):
        naming = naming_of(tensors, path)
        own = head_names(tensors, naming)
        tensors = {name.removeprefix(naming.prefix): tensor for name, tensor in tensors.items() if name in own}
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}


def _class_names(path: Path) -> tuple[str, ...]:
    if path.suffix != ".safetensors":
        return ()
    with safe_open(path, framework="pt") as file:
        written = (file.metadata() or {}).get("classes", "[]")
    try:
        names = json.loads(written)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path} has class names that are not a JSON list of strings: correct its metadata `classes`.")
    return tuple(names)


def read_head(path: Path, hidden_size: int) -> Head:
    """Read a head: norm.* and head.* as the official one has them, or the weight and bias of one Linear.

    Raises InputError when it is damaged, is neither, or does not fit a network of that width.
    """
    tensors = _head_tensors(path)
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and tensor.shape[1] not in (hidden_size, 2 * hidden_size):
            raise InputError(
                f"{path} takes {tensor.shape[1]} features: this network gives {hidden_size} (class token) or "
                f"{2 * hidden_size} (with the mean patch token)."
            )
        check_values(name, tensor, path, torch.float32)
    tensors = {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}
    official = "norm.running_var" in tensors
    if official:
        module = _with_batch_norm(tensors, path)
    else:
        by_rank = {tensor.ndim: tensor for tensor in tensors.values()}
        if len(tensors) != 2 or set(by_rank) != {1, 2} or len(by_rank[1]) != len(by_rank[2]):
            raise InputError(
                f"{path} holds {listed(tensors) or 'no head.* or norm.*'}: a head is norm.* and head.* as the official "
                "one, or the weight and bias of one Linear."
            )
        module = LinearHead(by_rank[2], by_rank[1])
    width, classes, names = module.head.in_features, module.head.out_features, _class_names(path)
    if names and len(names) != classes:
        raise InputError(
            f"{path} has names for {len(names)} classes and weights for {classes}: correct its metadata `classes`."
        )
    over = "class token" if width == hidden_size else "class token and mean patch token"
    kind = f"{'BatchNorm (folded) and Linear' if official else 'Linear'} over {over}"
    return Head(module, names or unnamed_classes(classes), kind, path, sha256(path))


def _with_batch_norm(tensors: dict[str, Tensor], path: Path) -> LinearHead:
    """The official head: a BatchNorm over class token and mean patch token, and a Linear."""
    wanted: Collection[str] = ("head.weight", "head.bias", *(f"norm.{name}" for name in _BATCH_NORM))
    if wrong := set(wanted) ^ set(tensors):
        raise InputError(
            f"{path} does not fit the official head in {listed(sorted(wrong))}: give norm.* and head.*, or a plain "
            "Linear."
        )
    try:
        classes, width = tensors["head.weight"].shape
        with torch.device("meta"):
            head = ClassificationHead(width // 2, classes)
        head.load_state_dict(tensors, strict=False, assign=True)
    except (RuntimeError, ValueError) as error:  # shapes that do not go together
        raise InputError(f"{path} is not a classification head ({str(error).splitlines()[-1].strip()}).") from None
    if (tensors["norm.running_var"] < 0).any():
        raise InputError(
            f"{path} is damaged: norm.running_var, a variance, holds values below 0; download the file again."
        )
    return folded(head)


_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
