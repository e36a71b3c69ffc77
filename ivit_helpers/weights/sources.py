"""The `model` parameter -> a checkpoint: a folder, a file, a hub id, the embedded miniature, or random weights."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ivit_helpers.errors import InputError, describe_error
from ivit_helpers.images.transform import ImageTransform
from ivit_helpers.model.network import SHAPES, InternViTConfig
from ivit_helpers.paths import DATA
from ivit_helpers.weights.config import image_transform, kind_of, network_config
from ivit_helpers.weights.files import STEMS, SUFFIXES, open_weights, read_json, tensors_in, weight_map
from ivit_helpers.weights.names import PUBLISHED, Naming, head_names, naming_of

MINIATURE = "tiny-internvit"
"""Name and folder of the embedded miniature"""
HEAD_FILES = ("classification_head.safetensors", "intern_vit_6b_224px_head.pth")
"""File names of a head beside a model's weights: this project's own, the published one"""
CONFIGURATION = ("config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class Checkpoint:
    """Where weights come from, before any is read."""

    name: str
    config: InternViTConfig
    transform: ImageTransform
    published: Mapping[str, Any] = field(default_factory=dict)
    """The whole config.json; empty for random weights"""
    source: Path | None = None
    """The folder or the weight file; None for random weights"""
    files: tuple[Path, ...] = ()
    """Weight files in order; empty for random weights"""
    naming: Naming = PUBLISHED
    """How the weight files name the tensors"""
    head: Path | None = None

    @property
    def is_random(self) -> bool:
        """Whether the weights are made here."""
        return self.source is None


def is_hub_id(model: str) -> bool:
    """Whether a `model` parameter has a hub id's form, owner/name, and is not a folder or file on this machine."""
    form = re.fullmatch(r"\w[\w.-]{,95}/\w[\w.-]{,95}", model, re.ASCII)
    return form is not None and not Path(model).exists()


def check(model: str, head: str = "") -> None:
    """Raise InputError, before a notebook starts, as `find` does; of a model on a hub only the configuration is fetched."""
    if is_hub_id(model):
        parent = Path(model).parent
        if parent.is_dir():
            raise InputError(f"model={model!r}: the folder {parent} exists and has no {Path(model).name}: correct it.")
        if head:
            check_head(Path(head).expanduser())
        _fetch(model)
    else:
        find(model, head)


def find(model: str, head: str = "") -> Checkpoint:
    """The checkpoint that the `model` parameter names, with the head that `head` names; reads no weights.

    A model on a hub is downloaded first. Raises InputError for a model that is not there, that is not an InternViT, or
    that has no config or weights, and for weight files that are missing, superfluous or incomplete.
    """
    head_file = Path(head).expanduser() if head else None
    if head_file:
        check_head(head_file)
    kind, _, shape = model.partition(":")
    if kind == "random":
        if shape not in SHAPES:
            shapes = ", ".join(f"random:{name}" for name in SHAPES)
            raise InputError(f"model={model!r} is not a known shape: it may be {shapes}.")
        config = SHAPES[shape]
        return Checkpoint(model, config, ImageTransform(config.image_size, config.image_size), head=head_file)
    place, name = Path(model).expanduser(), ""
    if model == "tiny":
        place = DATA / MINIATURE
    elif is_hub_id(model):
        place, name = fetch_model(model), place.name
    elif not place.exists():
        raise InputError(
            f"model={model!r} is not a folder on this machine: give the path of a model folder, 'tiny' or "
            "'random:6b-224'."
        )
    if place.is_file():
        return _stored(place, place.parent, place.stem, head_file)
    place, found_name = snapshot(place)
    return _stored(place, place, name or found_name, head_file)


def _stored(source: Path, folder: Path, name: str, head: Path | None) -> Checkpoint:
    """The checkpoint in a folder, or in one of its weight files, for which config.json may be missing."""
    config_file = folder / "config.json"
    content = None if source.is_file() and not config_file.exists() else read_json(config_file)
    stored = open_weights(source, kind_of(content))
    config = network_config(content, stored.naming, stored.tensors, source)
    if head is None:
        within = [stored.places[name] for name in sorted(head_names(stored.tensors, stored.naming))]
        beside = [folder / file for file in HEAD_FILES if (folder / file).exists()]
        head = next(iter([*within, *beside]), None)
        if head in beside:
            check_head(head)
    return Checkpoint(
        name=name,
        config=config,
        transform=image_transform(folder, content or {}, config),
        published=content or {},
        source=source,
        files=stored.files,
        naming=stored.naming,
        head=head,
    )


def check_head(path: Path) -> None:
    """Raise InputError, before anything is loaded, for a head file that does not exist or does not hold weights."""
    if not path.is_file():
        raise InputError(f"head={str(path)!r} is not a file on this machine: give a .pth or .safetensors file.")
    if path.suffix not in SUFFIXES:
        raise InputError(f"head={str(path)!r} is not a weights file: give a .pth, .bin or .safetensors file.")
    tensors_in(path)


def snapshot(folder: Path) -> tuple[Path, str]:
    """(folder of the files, name of the model) of a model folder, which may be a model's root in a hub cache.

    Raises InputError for a root with several snapshots of which none is the main one.
    """
    folder = folder.resolve()
    root = folder.parent.parent if folder.parent.name == "snapshots" else folder
    if not root.name.startswith("models--"):
        return folder, folder.name
    name = root.name.rpartition("--")[2]
    if folder != root:
        return folder, name
    snapshots, main = sorted(folder.glob("snapshots/*")), folder / "refs" / "main"
    current = folder / "snapshots" / main.read_text().strip() if main.is_file() else None
    if current in snapshots:
        return current, name
    if len(snapshots) != 1:
        raise InputError(
            f"{folder} holds {len(snapshots)} snapshots and none is its main one: give the path of one, "
            "snapshots/HASH, or download it."
        )
    return snapshots[0], name


def fetch_model(model: str) -> Path:
    """Download a model's files from a hub into its cache, with progress, resuming an earlier download.

    safetensors files are preferred to pickled ones, and of a chat model only the shards of its vision network come.
    HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE work as huggingface_hub documents them. Raises InputError.
    """
    for stem, suffix in STEMS:
        index, single = f"{stem}{suffix}.index.json", f"{stem}{suffix}"
        folder = _fetch(model, index, single)
        if (folder / index).exists():
            shards = weight_map(folder / index)
            prefix = naming_of(shards, folder).prefix
            return _fetch(model, index, *{file.name for name, file in shards.items() if name.startswith(prefix)})
        if (folder / single).exists():
            break
    return folder


def _fetch(model: str, *names: str) -> Path:
    """The folder of a model in the hub cache, with its configuration and those of the named files that it has."""
    from huggingface_hub import snapshot_download  # imported late: it reads HF_ENDPOINT then

    try:
        return Path(snapshot_download(model, allow_patterns=[*CONFIGURATION, *names]))
    except Exception as error:  # the hub's own errors, its HTTP library's (which changed between versions), a full disk
        raise InputError(
            f"model={model!r} is not a folder here and could not be downloaded from the hub "
            f"({describe_error(error)}): check the name and the network and run again (the download resumes), set "
            "HF_ENDPOINT for a mirror, or give the path of a folder."
        ) from None
