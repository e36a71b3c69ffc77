"""Classification heads: the official one, this project's, a plain Linear, or none; each becomes one Linear over pooled features."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ivit_helpers.errors import InputError
from ivit_helpers.model.network import ClassificationHead
from ivit_helpers.weights.files import PICKLED, Place, check_file, places_in, sha256
from ivit_helpers.weights.formats import of_head, refuse_attention_pooling
from ivit_helpers.weights.reading import read
from ivit_helpers.weights.regular import NAME_LENGTH, is_there, parsed, printable, shown

HEAD_FILES = ("classification_head.safetensors", "intern_vit_6b_224px_head.pth")
"""File names of a head beside a model's weights: this project's own, the published one"""
PUBLISHED_SHA256 = "87201a460ecfc5fa6b2a119a5c17acabb6752e00a99f73857f95b3545f7d8ab9"
"""intern_vit_6b_224px_head.pth of the hub repository OpenGVLab/InternVL"""
RANDOM_CLASSES = 1000
CLASSES = 100_000
"""ImageNet-21K has 21,841"""


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


def folded(head: ClassificationHead) -> LinearHead:
    """The same head with its BatchNorm folded into its Linear, computed in float64."""
    norm, weight, bias = head.norm, head.head.weight.double(), head.head.bias.double()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    return LinearHead((weight * scale).detach(), (bias + weight @ shift).detach())


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


def unnamed_classes(count: int) -> tuple[str, ...]:
    """What the classes of a head without class names are called."""
    return tuple(f"class {number}" for number in range(count))


def head_classes(path: Path | None) -> tuple[str, ...]:
    """The names of a head's classes in the order of its outputs; None: the random head. Reads no weights.

    Raises InputError for a file that is not there, or that is not a weights file.
    """
    if path is None:
        return unnamed_classes(RANDOM_CLASSES)
    check_head(path)
    names, places = _class_names(path), of_head(places_in(path))
    _check_size(places, path)
    return names or unnamed_classes(
        max((place.shape[0] for place in places.values() if len(place.shape) == 2), default=0)
    )


def _check_size(places: Mapping[str, Place], path: Path) -> None:
    """Raise InputError for a head of more classes than are read; a shape such as (10**9, 0) takes no bytes of a file."""
    for name, place in places.items():
        if place.shape and (place.shape[0] > CLASSES or not place.nbytes):
            raise InputError(
                f"{path} stores {name} with shape {place.shape}, and a head has 1 to {CLASSES:,} classes: give another head."
            )


def random_head(hidden_size: int) -> Head:
    """A random head of the official shape. It serves timing and the pipeline; its answers mean nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = folded(ClassificationHead(hidden_size, RANDOM_CLASSES).eval())
    return Head(module, unnamed_classes(RANDOM_CLASSES), "none: random numbers in its place")


def missing_head(image_set: str) -> InputError:
    """The error for a published image set that is to be scored without a trained head."""
    return InputError(
        f"image_set={image_set!r} needs a trained head, and there is none beside the weights: put {HEAD_FILES[1]} "
        "(hub repository OpenGVLab/InternVL) there, or give head=FILE."
    )


def _class_names(path: Path) -> tuple[str, ...]:
    if path.suffix != ".safetensors":
        return ()
    with safe_open(path, framework="pt") as file:
        written = (file.metadata() or {}).get("classes", "[]")
    try:
        names = parsed(written)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path} has class names that are not a JSON list of strings: correct its metadata `classes`.")
    if len(names) > CLASSES or not all(printable(name) for name in names):
        raise InputError(
            f"{path} has names for more than {CLASSES:,} classes, or one that is empty, longer than {NAME_LENGTH} characters or cannot be "
            "printed: correct its metadata `classes`."
        )
    return tuple(names)


def _values(path: Path, hidden_size: int) -> dict[str, Tensor]:
    """The head's tensors, scanned for damage; read only if they fit a network of that width."""
    places = of_head(places_in(path))
    refuse_attention_pooling(places, path)
    _check_size(places, path)
    for place in places.values():
        if len(place.shape) == 2 and (width := place.shape[1]) not in (hidden_size, 2 * hidden_size):
            raise InputError(
                f"{path} takes {width} features: this network gives {hidden_size} (class token) or "
                f"{2 * hidden_size} (with the mean patch token)."
            )
    return {name: tensor.to(torch.float32, copy=True) for name, tensor in read(places, torch.float32)}


def _with_batch_norm(tensors: Mapping[str, Tensor], path: Path) -> LinearHead:
    classes, width = tensors["head.weight"].shape
    with torch.device("meta"):
        head = ClassificationHead(width // 2, classes)
    missing, unexpected = head.load_state_dict(tensors, strict=False, assign=True)
    names = [name for name in [*missing, *unexpected] if not name.endswith("num_batches_tracked")]
    if not names and (tensors["norm.running_var"] < 0).any():
        raise InputError(
            f"{path} is damaged: norm.running_var, a variance, holds values below 0; download the file again."
        )
    if names:
        raise InputError(
            f"{path} does not fit the official head in {', '.join(names)}: give norm.* and head.*, or a plain Linear."
        )
    return folded(head)


def _plain(tensors: Mapping[str, Tensor], path: Path) -> LinearHead:
    by_rank = {tensor.ndim: tensor for tensor in tensors.values()}
    if len(tensors) != 2 or set(by_rank) != {1, 2} or len(by_rank[1]) != len(by_rank[2]):
        found = ", ".join(list(tensors)[:6]) or "no head.* or norm.*"
        raise InputError(
            f"{path} holds {found}: a head is norm.* and head.* as the official one, or the weight and bias of one Linear."
        )
    return LinearHead(by_rank[2], by_rank[1])


def read_head(path: Path, hidden_size: int) -> Head:
    """Read a head: norm.* and head.* as the official one has them, or the weight and bias of one Linear.

    Of a training checkpoint, which holds the network too, its own head is read.

    Raises InputError when it is damaged, is neither, or does not fit a network of that width.
    """
    check_head(path)
    tensors = _values(path, hidden_size)
    official = "norm.running_var" in tensors
    try:
        module = (_with_batch_norm if official else _plain)(tensors, path)
    except (RuntimeError, KeyError, ValueError) as error:  # shapes that do not go together
        raise InputError(f"{path} is not a classification head ({str(error).splitlines()[-1].strip()}).") from None
    width, classes = module.head.in_features, module.head.out_features
    over = "class token" if width == hidden_size else "class token and mean patch token"
    kind = f"{'BatchNorm (folded) and Linear' if official else 'Linear'} over {over}"
    names = _class_names(path)
    if names and len(names) != classes:
        raise InputError(
            f"{path} has names for {len(names)} classes and weights for {classes}: correct its metadata `classes`."
        )
    return Head(module, names or unnamed_classes(classes), kind, path, sha256(path))


def check_head(path: Path) -> None:
    """Raise InputError, before anything is loaded, for a head file that does not exist or does not hold weights."""
    if not is_there(path) or path.is_dir():
        raise InputError(
            f"head={shown(str(path))} is not a file on this machine: give the path of a .pth or .safetensors file."
        )
    if path.suffix not in (*PICKLED, ".safetensors"):
        raise InputError(
            f"head={shown(str(path))} is not a weights file: give the path of a .pth, .bin or .safetensors file."
        )
    check_file(path)
