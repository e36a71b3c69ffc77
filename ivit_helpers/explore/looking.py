"""The image that is looked at, and what of the network: a block, a head, a patch."""

import zlib
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from torch import Tensor

from ivit_helpers.errors import InputError
from ivit_helpers.images.labelled_images import printable
from ivit_helpers.images.transform import ImageTransform
from ivit_helpers.model.network import InternViTConfig
from ivit_helpers.record.parameters import ExploreParameters


@dataclass(frozen=True, eq=False)
class Looked:
    """An image as the network gets it."""

    name: str
    crop: Image.Image
    pixels: Tensor
    """(1, 3, height, width), float32, on the CPU"""
    checksum: str
    """CRC-32 of the crop, as predictions have it"""


def look_at(name: str, image: Image.Image, transform: ImageTransform) -> Looked:
    """Resize, crop and normalise an RGB image. Raises InputError for one that cannot be resized."""
    try:
        crop = transform.crop(image)
    except ValueError as error:
        raise InputError(f"{printable(name)} cannot be shown to the network ({error}): give another image.") from None
    return Looked(printable(name), crop, transform(image)[None], f"{zlib.crc32(np.asarray(crop).tobytes()):08x}")


@dataclass(frozen=True)
class View:
    """What of the network is looked at."""

    block: int
    """From 1"""
    head: int
    """From 1; 0: the mean of all heads"""
    patch: int
    """From 0, in rows"""

    @property
    def head_in_words(self) -> str:
        return f"head {self.head}" if self.head else "the mean of all heads"

    def place(self, grid: int) -> str:
        """Where the patch is, in words."""
        return place_of(self.patch, grid)


def place_of(patch: int, grid: int) -> str:
    """Row and column of a patch, counted from 1."""
    return f"row {patch // grid + 1}, column {patch % grid + 1}"


def view_of(asked: ExploreParameters, config: InternViTConfig) -> View:
    """The block, head and patch of the parameters. Raises InputError for one that this network does not have."""
    middle = (config.grid // 2) * (config.grid + 1)
    for name, most in (
        ("block", config.num_hidden_layers),
        ("attention_head", config.num_attention_heads),
        ("patch", config.grid**2),
    ):
        if getattr(asked, name) > most:
            raise InputError(f"{name}={getattr(asked, name)} is not in this network: it has {most}, counted from 1.")
    return View(
        asked.block or config.num_hidden_layers, asked.attention_head, asked.patch - 1 if asked.patch else middle
    )


def at_block(view: View, block: int) -> View:
    """The same view of another block."""
    return replace(view, block=block)
