"""A model of a Hugging Face hub -> a folder on this machine: configuration and one kind of weights, never code."""

import re
from pathlib import Path

from ivit_helpers.errors import InputError, describe_error
from ivit_helpers.weights.files import STEMS

CONFIGURATION = ("config.json", "preprocessor_config.json")


def is_hub_id(model: str) -> bool:
    """Whether a `model` parameter has a hub id's form, owner/name, and is no folder or file of this machine."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model, re.ASCII) is not None and not Path(model).exists()


def cached(folder: Path) -> tuple[Path, str]:
    """(folder of the files, name of the model) of a model folder, which may be one of a hub cache: its root or one of its snapshots.

    Raises InputError for a root whose snapshot is not clear.
    """
    folder = folder.resolve()
    root = folder.parent.parent if folder.parent.name == "snapshots" else folder
    if not root.name.startswith("models--"):
        return folder, folder.name
    name = root.name.rpartition("--")[2]
    if folder != root:
        return folder, name
    snapshots, main = sorted(folder.glob("snapshots/*")), folder / "refs" / "main"
    if main.exists() and (current := folder / "snapshots" / main.read_text().strip()) in snapshots:
        return current, name
    if len(snapshots) != 1:
        raise InputError(f"{folder} holds {len(snapshots)} snapshots and none is its main one: give the path of one, snapshots/HASH.")
    return snapshots[0], name


def download(model: str) -> Path:
    """Bring a model's files into the hub cache, with progress, going on where an earlier download stopped.

    safetensors are taken where the model has them, pickled shards else. HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE are huggingface_hub's
    and hold. Raises InputError, with the next step, when the model cannot be had.
    """
    from huggingface_hub import snapshot_download  # imported late: it reads HF_ENDPOINT then

    try:
        for stem, suffix in STEMS:
            weights = [f"{stem}{suffix}", f"{stem}-*{suffix}", f"{stem}{suffix}.index.json"]
            folder = Path(snapshot_download(model, allow_patterns=[*CONFIGURATION, *weights]))
            if any(folder.glob(f"{stem}*{suffix}")):
                break
    except Exception as error:  # the hub's own errors, its HTTP library's (which changed between versions), a full disk
        raise InputError(
            f"model={model!r} is no folder here and could not be had from the hub ({describe_error(error)}): check the name and "
            "the network and run again (a download goes on where it stopped), set HF_ENDPOINT for a mirror, or give the path of a folder."
        ) from None
    return folder
