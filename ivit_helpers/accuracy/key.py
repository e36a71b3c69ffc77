"""What decides an answer: answers of different keys are never put into one table."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import ivit_helpers
from ivit_helpers.accuracy.journal import Key, as_json
from ivit_helpers.accuracy.predictions import answers_of
from ivit_helpers.device.device import dtype_name
from ivit_helpers.images.labelled_images import LabelledImages, printable
from ivit_helpers.record.provenance import kit
from ivit_helpers.weights.loading import Loaded

PACKAGES = ("torch", "torch-npu", "numpy", "pillow")
"""Whose versions may change an answer"""
DECIDING = (
    "device/*.py",
    "images/*.py",
    "model/*.py",
    "weights/*.py",
    "accuracy/predictions.py",
    "accuracy/classes.py",
)
"""The files of the kit that decide answers: a change elsewhere does not cost what was answered"""
LONGEST = 60


def key_of(loaded: Loaded, images: LabelledImages) -> dict[str, Any]:
    """Everything that decides the answers of a model to a set of images, as JSON can hold it.

    Not the batch size, which moves last bits only: an unfinished run may go on with smaller batches. Not the content of the images,
    which would have to be read: their paths and labels are in it, and each row has a checksum of the pixels.
    """
    head = loaded.head_source
    found: dict[str, Any] = as_json(
        {
            "kit": f"{kit()}, code {_code()}",
            **{name: _version(name) for name in PACKAGES},
            "device": f"{loaded.device.kind}, {loaded.device.name}",
            "model": loaded.checkpoint.name,
            "weights": {file.name: loaded.sha256.get(file.name) or _stamp(file) for file in loaded.checkpoint.files},
            "dtype": dtype_name(loaded.dtype),
            "kernels": loaded.network.kernels.name,
            "head": head.sha256 or head.kind,
            "transform": asdict(loaded.checkpoint.transform),
            "image set": images.name,
            "images": len(images),
            "images, labels and classes": _digest(images, loaded),
        }
    )
    return found


def _code() -> str:
    """A digest of the kit's code that decides answers, which a version does not tell apart while the kit is worked on."""
    digest = hashlib.sha256()
    for pattern in DECIDING:
        for file in sorted(Path(ivit_helpers.__file__).parent.glob(pattern)):
            digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _stamp(file: Path) -> str:
    """Size and time of a file, where nobody has asked for its digest."""
    found = file.stat()
    return f"{found.st_size} bytes, changed {found.st_mtime_ns}"


def _digest(images: LabelledImages, loaded: Loaded) -> str:
    digest = hashlib.sha256()
    for path, label in zip(images.paths, images.labels, strict=True):
        digest.update(f"{printable(str(path))}\0{label}\n".encode())
    digest.update(
        json.dumps([list(images.classes), loaded.classes, answers_of(images, loaded), images.upright]).encode()
    )
    return digest.hexdigest()[:16]


def differences(there: Key, here: Key) -> str:
    """What the second key has otherwise than the first, in words; empty for equal keys."""
    return "; ".join(
        f"{name}: {_said(there, name)} there, {_said(here, name)} here"
        for name in dict.fromkeys([*here, *there])
        if there.get(name) != here.get(name)
    )


def _said(key: Mapping[str, Any], name: str) -> str:
    value = key.get(name)
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
