"""Image files -> pixel values, by the official transform."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.Image import Transpose

if TYPE_CHECKING:
    from torch import Tensor


LONGEST = 2**17
"""Pixels of the long side of a resized image: 88 MB at 224 px, and no photograph comes near it"""
LARGEST_SIDE = 2**11
"""Pixels of a side of `size` and `crop_size`: 50 MB of values for each image, and the published networks take 224 and 448"""
SMALLEST_STD = 0.01
"""Of values from 0 to 1; a smaller one makes the normalised values larger than 100"""
STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
"""Keys of a processor's steps that are always taken here"""
OTHER_STEPS = ("do_pad", "do_flip_channel_order", "do_reduce_labels", "do_align_long_axis", "do_thumbnail", "do_random_crop",
               "crop_to_patches")  # fmt: skip
"""Keys of a processor's steps that are never taken here"""
RESAMPLINGS = tuple(sorted(Image.Resampling))
"""Pillow's numbers"""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TURNS = dict(zip(range(2, 9), (Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM, Transpose.TRANSPOSE,
                               Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90), strict=True))  # fmt: skip
"""How to turn an image upright, by its EXIF orientation"""


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
        """Take the numbers of a published preprocessor_config.json; a key that is missing or null has the official value.

        A side may be written as a number or as a mapping: {"shortest_edge": side}, or {"height": side, "width": side}.
        Raises ValueError naming the key, for a value that cannot be, and for one that asks for another computation than this.
        """
        given = {key: value for key, value in published.items() if value is not None}
        for key, value in given.items():
            _check_step(key, value)
        size, crop_size = _side(given, "size"), _side(given, "crop_size")
        if crop_size > size:
            raise ValueError(f"crop_size is {crop_size}, which is larger than size, {size}")
        if (
            type(resample := given.get("resample", Image.Resampling.BICUBIC.value)) is not int
            or resample not in RESAMPLINGS
        ):
            raise ValueError(
                f"resample is {reprlib.repr(resample)}, and it may be one of {', '.join(map(str, RESAMPLINGS))}"
            )
        return cls(
            size,
            crop_size,
            _by_channel(given, "image_mean", IMAGENET_MEAN),
            _by_channel(given, "image_std", IMAGENET_STD),
            resample,
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


def _check_step(key: str, value: object) -> None:
    """Raise ValueError for a step that is left out, added or changed: this transform has the official ones."""
    wanted = key in STEPS
    if key in (*STEPS, *OTHER_STEPS) and value is not wanted:
        raise ValueError(f"{key} is {reprlib.repr(value)}, and only {str(wanted).lower()} is computed")
    if key == "rescale_factor" and not (
        type(value) in (int, float) and math.isclose(float(str(value)), 1 / 255, rel_tol=1e-3)
    ):
        raise ValueError(f"rescale_factor is {reprlib.repr(value)}, and only 1/255 is computed")


def _side(given: Mapping[str, Any], key: str) -> int:
    value = given.get(key, 224)
    sides = value
    if isinstance(value, Mapping):
        written = {name: side for name, side in value.items() if side is not None}
        sides = (
            next(iter(written.values()), None) if written.keys() in ({"shortest_edge"}, {"height", "width"}) else None
        )
        sides = sides if all(side == sides for side in written.values()) else None
    if type(sides) is not int or not 1 <= sides <= LARGEST_SIDE:
        raise ValueError(
            f"{key} is {reprlib.repr(value)}, and it may be one number of pixels from 1 to {LARGEST_SIDE:,}, of a square"
        )
    return sides


def _by_channel(given: Mapping[str, Any], key: str, official: tuple[float, ...]) -> tuple[float, ...]:
    """Means or deviations of red, green and blue, of values from 0 to 1."""
    value, least = given.get(key, official), SMALLEST_STD if key == "image_std" else 0
    if (
        not isinstance(value, list | tuple)
        or len(value) != len(official)
        or not all(type(number) in (int, float) and least <= number <= 1 for number in value)
    ):
        raise ValueError(f"{key} is {reprlib.repr(value)}, and it may be a list of three numbers from {least} to 1")
    return tuple(value)


@dataclass(frozen=True)
class Picture:
    """A decoded image file, with the two properties that image readers treat differently."""

    image: Image.Image
    """RGB"""
    orientation: int = 1
    """The EXIF orientation that the file carries, 1 to 8; 1: stored upright"""
    cmyk: bool = False
    """Stored as CMYK: Pillow's RGB values differ from OpenCV's by up to 2 grey levels"""


def read_picture(file: Path | IO[bytes], upright: bool = False) -> Picture:
    """Decode an image file completely, as RGB.

    upright: turn the image as its EXIF orientation says. The authors' evaluation does so for ImageNet-1K and ReaL, which it reads
    with OpenCV, and does not for the other sets, which it reads with Pillow. As in OpenCV only EXIF counts, not XMP.
    Grey images are repeated over the channels, palettes are looked up, and transparency is dropped. 16-bit grey is scaled to
    8 bits, where Pillow would clip it to white. Raises OSError or ValueError when the file cannot be decoded.
    """
    try:
        with Image.open(file) as opened:
            opened.load()
            orientation = _orientation(opened)
            turn = TURNS.get(orientation) if upright else None
            return Picture(
                _as_rgb(opened if turn is None else opened.transpose(turn)), orientation, opened.mode == "CMYK"
            )
    except (OSError, ValueError):
        raise
    except (
        Exception
    ) as error:  # Pillow's decoders let SyntaxError, struct.error, zlib.error and more through for damaged files
        raise ValueError(f"{type(error).__name__}: {error}") from error


def read_image(file: Path | IO[bytes]) -> Image.Image:
    """Decode an image file completely, as RGB, with the EXIF orientation left alone; raises what `read_picture` raises."""
    return read_picture(file).image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or where the EXIF data are damaged, which readers ignore."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        value = exif.get(ExifTags.Base.Orientation)
    except Exception:  # whatever damaged EXIF data make Pillow raise, the pixels are whole
        return 1
    return value if value in TURNS else 1


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray((wide.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def synthetic_pixels(count: int, side: int, seed: int = 0) -> "Tensor":
    """Pixel values (count, 3, side, side) of standard normal noise, as normalised images are distributed; always the same."""
    import torch

    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
