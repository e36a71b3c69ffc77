"""Labelled sets of images: folders of classes, and noise for a run without any image."""

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from ivit_helpers import paths
from ivit_helpers.errors import InputError
from ivit_helpers.images.aside import LeftAside
from ivit_helpers.images.compact import Paths
from ivit_helpers.images.regular import open_regular
from ivit_helpers.images.transform import Picture, read_picture

MOST_CLASSES = 1_000_000
"""Class numbers end here: ImageNet-21k has 21,841 classes, and a list is made of all of them"""
MOST_WORD = 1_000
"""Characters of a class name or a label"""


class StoredImage(Protocol):
    """An image file inside another file."""

    def read(self) -> bytes:
        """Its bytes. Raises FileNotFoundError where the container does not hold it."""


Label = int | tuple[int, ...] | None
"""An index into the classes; several where each of them is right; None where the set gives none"""


@dataclass(frozen=True)
class LabelledImages:
    """Image files and their labels."""

    name: str
    paths: Sequence[Path]
    """The path of each image, which is also its name in every table"""
    labels: Sequence[Label]
    classes: Sequence[str]
    root: Path | None = None
    """The folder of the set"""
    answers: Sequence[int] | None = None
    """The classes that may be answered; None for all"""
    stored: Sequence[StoredImage] | None = None
    """What to read each image from, where it is not a file of its own"""
    drawn_from: int | None = None
    """How many images the set has, where these are some drawn at random"""
    upright: bool = False
    """Whether the EXIF orientation is applied: only in the sets for which the authors did. A set of the model's own classes is read as
    torchvision's ImageFolder reads it, which leaves the orientation alone."""
    left_aside: Sequence[LeftAside] = ()
    """What is in the whole set and is not one of its images"""

    def __post_init__(self) -> None:
        if not isinstance(self.paths, Paths):
            object.__setattr__(self, "paths", Paths(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def picture(self, index: int) -> Picture:
        """Decode one image; raises OSError or ValueError when it cannot be decoded, FileNotFoundError when it is not there."""
        with open_regular(self.paths[index]) if self.stored is None else io.BytesIO(self.stored[index].read()) as file:
            return read_picture(file, self.upright)

    def identity(self, index: int) -> str:
        """What an image is called on every machine: its path within the set."""
        path = self.paths[index]
        return printable((path.relative_to(self.root) if self.root else path).as_posix())

    def drawn(self, limit: int, seed: int) -> "LabelledImages":
        """At most `limit` of the images, drawn at random without replacement, in their old order; all of them for 0."""
        if not 0 < limit < len(self):
            return self
        chosen = sorted(np.random.default_rng(seed).choice(len(self), limit, replace=False).tolist())
        return replace(
            self,
            paths=[self.paths[i] for i in chosen],
            labels=[self.labels[i] for i in chosen],
            stored=self.stored and [self.stored[i] for i in chosen],
            drawn_from=len(self),
        )


class SyntheticImages(LabelledImages):
    """Unlabelled noise, for a run of the pipeline where no image is at hand. The file names exist nowhere."""

    def picture(self, index: int) -> Picture:
        noise = np.random.default_rng(int(self.paths[index].stem)).integers(0, 256, (256, 256, 3), dtype=np.uint8)
        return Picture(Image.fromarray(noise))


def synthetic_images(count: int, seed: int) -> SyntheticImages:
    """`count` images of noise; every seed gives others."""
    names = [Path("synthetic") / f"{seed * 1_000_000 + number:09d}" for number in range(count)]
    return SyntheticImages("synthetic", names, [None] * count, [])


def printable(name: str) -> str:
    """A file name as it can be written and shown: bytes that are not UTF-8 and control characters are written as escapes."""
    text = paths.printable(name)
    return "".join(map(_shown, text)) if not text.isprintable() else text


def _shown(character: str) -> str:
    return (
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in {"Cc", "Zl", "Zp"}
        else character
    )


def is_number(word: str) -> bool:
    """Whether a word is a whole number in the digits 0 to 9: other scripts' digits are letters of a name."""
    return word.isascii() and word.isdecimal()


def named(name: str, paths: Sequence[Path], written: Sequence[str | None], names: Sequence[str] = ()) -> LabelledImages:
    """A set whose labels are written as words. `names`: classes that there are, with images or without.

    Where every word is a number it is the class index itself: sorted as text, "10" would come before "2".
    Raises InputError for a number above MOST_CLASSES and for a word of more than MOST_WORD characters.
    """
    words = {word for word in written if word is not None} | set(names)
    longest = max(words, key=len, default="")
    if len(longest) > MOST_WORD:
        raise InputError(
            f"{name} has a label of {len(longest):,} characters ({longest[:20]}...): a class name has at most {MOST_WORD:,}."
        )
    if all(map(is_number, words)):
        most = max(map(int, words), default=-1)
        if most >= MOST_CLASSES:
            raise InputError(
                f"{name} has the label {most}: numbers are class indices, and they end at {MOST_CLASSES:,}."
            )
        classes = [str(number) for number in range(most + 1)]
        return LabelledImages(name, paths, [None if word is None else int(word) for word in written], classes)
    classes = sorted(words)
    index = {word: number for number, word in enumerate(classes)}
    return LabelledImages(name, paths, [None if word is None else index[word] for word in written], classes)


def inside(shard: Path, name: str) -> Path:
    """The path of an archive's image. A name that begins at the root, as some archives have, stays inside the archive."""
    return shard / name.lstrip("/")


class Absent:
    """An image that a label names and that an archive does not hold."""

    def read(self) -> bytes:
        """Raise FileNotFoundError, as any file that is missing."""
        raise FileNotFoundError
