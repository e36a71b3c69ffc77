"""A model of a Hugging Face hub -> a folder on this machine: configuration and one kind of weights, never code."""

import re
from pathlib import Path

from ivit_helpers.errors import InputError, describe_error
from ivit_helpers.weights.files import STEMS, tensors_of
from ivit_helpers.weights.formats import recognise
from ivit_helpers.weights.regular import NAME_LENGTH, check_regular, is_there

CONFIGURATION = ("config.json", "preprocessor_config.json")


def is_hub_id(model: str) -> bool:
    """Whether a `model` parameter has a hub id's form, owner/name, and is not a folder or file on this machine."""
    return re.fullmatch(r"\w[\w.-]{,95}/\w[\w.-]{,95}", model, re.ASCII) is not None and not is_there(Path(model))


def cached(folder: Path) -> tuple[Path, str]:
    """(folder of the files, name of the model) for a model folder, which may be in a hub cache: a model's root, or one of its snapshots.

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
    if is_there(main):
        check_regular(main)
        with main.open("rb") as file:
            current = file.read(NAME_LENGTH).decode(errors="replace").strip()
        if current in {path.name for path in snapshots}:
            return folder / "snapshots" / current, name
    if len(snapshots) != 1:
        raise InputError(
            f"{folder} holds {len(snapshots)} snapshots and none is its main one: give the path of one, snapshots/HASH, or download it."
        )
    return snapshots[0], name


def download(model: str) -> Path:
    """Download a model's files into the hub cache, with progress, resuming an earlier download.

    safetensors files are preferred to pickled ones. Of a chat model only the shards of its vision network are downloaded.
    HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE work as huggingface_hub documents them.
    Raises InputError, with the next step, when the model cannot be downloaded or is not an InternViT.
    """
    for stem, suffix in STEMS:
        index, single = f"{stem}{suffix}.index.json", f"{stem}{suffix}"
        folder = _fetch(model, index, single)
        if is_there(folder / index):
            return _fetch(model, index, *_wanted(folder))
        if is_there(folder / single):
            break
    return folder


def reach(model: str) -> None:
    """Raise InputError where a model's configuration is neither in the hub cache nor to be had from the hub; reads no weights."""
    _fetch(model)


def _fetch(model: str, *names: str) -> Path:
    """The folder of a model in the hub cache, with its configuration and those of the named files that the model has."""
    from huggingface_hub import snapshot_download  # imported late: it reads HF_ENDPOINT then

    try:
        return Path(snapshot_download(model, allow_patterns=[*CONFIGURATION, *names]))
    except Exception as error:  # the hub's own errors, its HTTP library's (which changed between versions), a full disk
        raise InputError(
            f"model={model!r} is not a folder here and could not be downloaded from the hub ({describe_error(error)}): check the name and "
            "the network and run again (the download resumes), set HF_ENDPOINT for a mirror, or give the path of a folder."
        ) from None


def _wanted(folder: Path) -> set[str]:
    """The shards that an index says to hold the network."""
    tensors = tensors_of(folder)
    prefix = recognise(tensors, None, folder).prefix
    return {file.name for name, file in tensors.items() if name.startswith(prefix)}
