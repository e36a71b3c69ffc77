"""The `model` parameter -> a checkpoint: a folder, a file, a hub id, the embedded miniature, or random weights. Reads no weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ivit_helpers.errors import InputError
from ivit_helpers.images.transform import ImageTransform
from ivit_helpers.model.network import SHAPES, InternViTConfig
from ivit_helpers.paths import DATA
from ivit_helpers.weights.files import files_of, shapes_of, tensors_of
from ivit_helpers.weights.formats import PUBLISHED, Format, config_in, config_of, recognise
from ivit_helpers.weights.head import HEAD_FILES, check_head
from ivit_helpers.weights.hub import cached, download, is_hub_id, reach
from ivit_helpers.weights.processor import transform_in
from ivit_helpers.weights.regular import expanded, is_there, read_json, shown

MINIATURE = "tiny-internvit"
"""Name and folder of the embedded miniature"""


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
    form: Format = PUBLISHED
    """How the weight files name the tensors"""
    head: Path | None = None

    @property
    def is_random(self) -> bool:
        return not self.shards


def _random(model: str, shape: str, head: Path | None) -> Checkpoint:
    if shape not in SHAPES:
        raise InputError(
            f"model={shown(model)} is not a known shape: it may be {', '.join(f'random:{name}' for name in SHAPES)}."
        )
    config = SHAPES[shape]
    return Checkpoint(model, config, ImageTransform(config.image_size, config.image_size), head=head)


def _in_folder(folder: Path, name: str, head: Path | None) -> Checkpoint:
    return _stored(folder, read_json(folder / "config.json"), tensors_of(folder), folder, name, head)


def _in_file(path: Path, head: Path | None) -> Checkpoint:
    """One weight file. Its config is the config.json beside it, and else follows from the shapes of its tensors."""
    beside = path.parent / "config.json"
    return _stored(
        path,
        read_json(beside) if is_there(beside) else None,
        dict.fromkeys(shapes_of([path]), path),
        path.parent,
        path.stem,
        head,
    )


def _stored(
    source: Path,
    published: Mapping[str, Any] | None,
    tensors: Mapping[str, Path],
    folder: Path,
    name: str,
    head: Path | None,
) -> Checkpoint:
    """The checkpoint of these tensors (their files, by stored name) beside that config.json."""
    form = recognise(tensors, published, source)
    files = files_of(tensors, form.prefix)
    try:
        config = config_in(form, published, source) or config_of(form, shapes_of(files), source)
    except InputError as error:
        raise error if str(source) in str(error) else InputError(f"{source}: {error}") from None
    own = [tensors[name] for name in sorted(form.head(tensors))] + [
        folder / name for name in HEAD_FILES if is_there(folder / name)
    ]
    if head is None and own:
        check_head(head := own[0])
    return Checkpoint(
        name=name,
        config=config,
        transform=transform_in(folder, published or {}, config),
        published=published or {},
        shards=files,
        form=form,
        head=head,
    )


def find(model: str, head: str = "") -> Checkpoint:
    """The checkpoint that the `model` parameter names, with the head that `head` names; reads configuration only, no weights.

    A hub id is downloaded first. Raises InputError for an unknown random shape, for a model that is not there, that is not an InternViT
    or that has no config or weights, and for weight files that are missing, superfluous or damaged at their first or last bytes.
    """
    head_file = expanded(head, "head") if head else None
    if head_file:
        check_head(head_file)
    kind, _, shape = model.partition(":")
    if kind == "random":
        return _random(model, shape, head_file)
    if model == "tiny":
        return _in_folder(DATA / MINIATURE, MINIATURE, head_file)
    place = expanded(model, "model")
    if place.is_file():
        return _in_file(place, head_file)
    if is_hub_id(model):
        return _in_folder(download(model), place.name, head_file)
    if not place.is_dir():
        raise InputError(
            f"model={shown(model)} is not a folder on this machine: give the path of a model folder, 'tiny' or 'random:6b-224'."
        )
    return _in_folder(*cached(place), head_file)


def check(model: str, head: str = "") -> None:
    """Check `model` and `head` before a notebook starts; of a hub's model only the configuration. Raises InputError as `find` does."""
    place = Path(model)
    if is_hub_id(model) and place.parent.is_dir():
        raise InputError(
            f"model={model!r}: the folder {place.parent} exists and has no {place.name}: correct the path."
        )
    if is_hub_id(model):
        reach(model)
    find("tiny" if is_hub_id(model) else model, head)
