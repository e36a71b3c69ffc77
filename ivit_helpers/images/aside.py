"""What is in an image set and is not one of its images: it is counted and named, so that no image is missed without a word."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ivit_helpers.images.regular import START, begins_like_an_image, open_regular

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
PACKED = frozenset(
    {
        ".tar",
        ".tgz",
        ".gz",
        ".bz2",
        ".xz",
        ".zst",
        ".zip",
        ".7z",
        ".rar",
        ".parquet",
        ".arrow",
        ".tfrecord",
        ".h5",
        ".hdf5",
        ".npz",
        ".lmdb",
    }
)
"""Suffixes of files that may hold images"""


@dataclass(frozen=True)
class LeftAside:
    """A file, folder, link or archive member that is not an image of the set."""

    name: str
    """Its path in the set"""
    reason: str
    image: bool
    """Whether it could be an image, or hold some: such a set is not complete. False for plain companions, such as a README."""

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


def listed(aside: Sequence[LeftAside], most: int = 5) -> list[str]:
    """The first names with their reasons, those that could be images first."""
    return [str(one) for one in sorted(aside, key=lambda one: not one.image)[:most]]


def classified(name: str, path: PurePath, start: bytes) -> LeftAside:
    """A file that does not have the suffix of an image, by its suffix and its first bytes. name: what a reader calls it."""
    if begins_like_an_image(start):
        return LeftAside(
            name, f"an image by its first bytes, with the suffix {path.suffix or '(none)'}: rename it", image=True
        )
    if path.suffix.lower() in PACKED:
        return LeftAside(name, "an archive, which may hold images", image=True)
    return LeftAside(name, "not an image", image=False)


def classified_file(name: str, path: Path) -> LeftAside:
    """The same of a file on the disk; one that cannot be read could be an image."""
    try:
        with open_regular(path) as file:
            return classified(name, path, file.read(START))
    except OSError as error:
        return LeftAside(name, f"cannot be read ({error.strerror or error})", image=True)
