"""Image files -> pixel values, by the official transform; and the labelled sets they come from."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivit_helpers.errors import InputError

# torch is imported where a tensor is made: decoding processes import this module, and torch would cost each of them seconds.
if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
EMBEDDED = Path(__file__).resolve().parent.parent / "data"
LONGEST = 2**17
"""Pixels of the long side of a resized image: 88 MB at 224 px, and no photograph comes near it"""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageTransform:
    """The official preprocessing: short side to `size` (bicubic), centre crop to `crop_size`, [0, 1], mean and std by channel.

    Source: the published preprocessor_config.json for the numbers, torchvision's Resize and CenterCrop on a PIL image for the
    rounding (the long side is cut to a whole pixel, the crop offset is rounded half to even).
    """

    size: int = 224
    crop_size: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resample: int = Image.Resampling.BICUBIC

    @classmethod
    def from_json(cls, published: Mapping[str, Any]) -> "ImageTransform":
        """Take the numbers of a published preprocessor_config.json; sizes may be written as a number or as a mapping."""

        def side(key: str) -> int:
            value = published.get(key, 224)
            return int(next(iter(value.values())) if isinstance(value, Mapping) else value)

        return cls(
            size=side("size"),
            crop_size=side("crop_size"),
            mean=tuple(published.get("image_mean", IMAGENET_MEAN)),
            std=tuple(published.get("image_std", IMAGENET_STD)),
            resample=int(published.get("resample", Image.Resampling.BICUBIC)),
        )

    def crop(self, image: Image.Image) -> Image.Image:
        """Resize and centre crop an RGB image: what the network sees, still as 8-bit pixels."""
        width, height = image.size
        short, long = sorted((width, height))
        scaled = int(self.size * long / short)
        if scaled > LONGEST:
            raise ValueError(f"{width} x {height} pixels are too narrow: resized it would be {scaled:,} pixels long")
        resized = (self.size, scaled) if width <= height else (scaled, self.size)
        image = image.resize(resized, self.resample)
        left, top = (round((side - self.crop_size) / 2.0) for side in resized)
        return image.crop((left, top, left + self.crop_size, top + self.crop_size))

    def normalised(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """8-bit crops (..., crop_size, crop_size, 3) -> pixel values (..., 3, crop_size, crop_size).

        Each value depends on its own pixel and channel alone, so one image and a batch give the same bits.
        """
        pixels = np.moveaxis(crops, -1, -3).astype(np.float32, order="C")
        mean, std = (np.array(numbers, np.float32).reshape(-1, 1, 1) for numbers in (self.mean, self.std))
        for operation, operand in ((np.divide, np.float32(255)), (np.subtract, mean), (np.divide, std)):
            operation(pixels, operand, out=pixels)
        return pixels

    def __call__(self, image: Image.Image) -> "Tensor":
        """RGB image -> pixel values (3, crop_size, crop_size), float32."""
        import torch

        return torch.from_numpy(self.normalised(np.asarray(self.crop(image))))


def read(file: Path | IO[bytes]) -> Image.Image:
    """Decode an image file completely, as RGB, as the official loader does.

    Grey images are repeated over the channels, palettes are looked up, transparency is dropped, and an EXIF orientation is left
    alone: the published accuracies were measured so. 16-bit grey is scaled to 8 bits, where Pillow would clip it to white.
    Raises OSError or ValueError when the file cannot be decoded.
    """
    try:
        with Image.open(file) as opened:
            opened.load()
            return _as_rgb(opened)
    except (OSError, ValueError):
        raise
    except Exception as error:  # Pillow's decoders let SyntaxError, struct.error, zlib.error and more through for damaged files
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray((wide.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


class Stored(Protocol):
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
    """Where each image lies, and what it is called in every table"""
    labels: Sequence[Label]
    classes: Sequence[str]
    root: Path | None = None
    """The folder of the set"""
    answers: Sequence[int] | None = None
    """The classes that may be answered; None for all"""
    stored: Sequence[Stored] | None = None
    """What to read each image from, where it is no file of its own"""
    drawn_from: int | None = None
    """How many images the set has, where these are some drawn at random"""

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> Image.Image:
        """Decode one image; raises what `read` raises."""
        return read(self.paths[index] if self.stored is None else io.BytesIO(self.stored[index].read()))

    def identity(self, index: int) -> str:
        """What an image is called on every machine: its path within the set."""
        path = self.paths[index]
        return (path.relative_to(self.root) if self.root else path).as_posix()

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

    def image(self, index: int) -> Image.Image:
        noise = np.random.default_rng(int(self.paths[index].stem)).integers(0, 256, (256, 256, 3), dtype=np.uint8)
        return Image.fromarray(noise)


def synthetic_images(count: int, seed: int) -> SyntheticImages:
    """`count` images of noise; every seed gives others."""
    names = [Path("synthetic") / f"{seed * 1_000_000 + number:09d}" for number in range(count)]
    return SyntheticImages("synthetic", names, [None] * count, [])


def images_below(folder: Path) -> list[Path]:
    """Every image file of a folder and of the folders in it, sorted; files that begin with a dot are none."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def class_folders(folder: Path, name: str | None = None) -> LabelledImages:
    """Read a folder with one folder of images per class. Classes are sorted by name; folders that are all numbers name class indices."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}: give class folders, a flat folder with labels=FILE, or parquet or tar files.")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    pairs = [(path, label) for label in names for path in images_below(folder / label)]
    if not pairs:
        raise InputError(f"{folder} holds no class folders with images; expected {folder}/<class>/<image>.png or .jpg.")
    found = named(name or folder.name, [path for path, _ in pairs], [label for _, label in pairs], names)
    return replace(found, root=folder)


def named(name: str, paths: Sequence[Path], written: Sequence[str | None], names: Sequence[str] = ()) -> LabelledImages:
    """A set whose labels are written as words. `names`: classes that there are, with images or without.

    Where every word is a number it is the class index itself: sorted as text, "10" would come before "2".
    """
    words = {word for word in written if word is not None} | set(names)
    if all(word.isdecimal() for word in words):
        classes = [str(number) for number in range(max(map(int, words), default=-1) + 1)]
        return LabelledImages(name, paths, [None if word is None else int(word) for word in written], classes)
    classes = sorted(words)
    index = {word: number for number, word in enumerate(classes)}
    return LabelledImages(name, paths, [None if word is None else index[word] for word in written], classes)


def labelled(data: str, limit: int = 0, seed: int = 0) -> LabelledImages:
    """The set that the `data` parameter names: "digits" (embedded), "synthetic", or a folder of class folders."""
    if data == "synthetic":
        return synthetic_images(limit or 64, seed)
    images = class_folders(EMBEDDED / "digits", "digits") if data == "digits" else class_folders(Path(data).expanduser())
    return images.drawn(limit, seed)


def synthetic_pixels(count: int, side: int, seed: int = 0) -> "Tensor":
    """Pixel values (count, 3, side, side) of standard normal noise, as normalised images are distributed; always the same."""
    import torch

    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
