"""Images in tar files, read in place."""

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ivit_helpers.errors import InputError
from ivit_helpers.images.labelled_images import SUFFIXES, Absent, LabelledImages, StoredImage, inside, named, printable

TAR_BLOCK = 512


@dataclass(frozen=True)
class TarMember:
    """An image file in an uncompressed tar file."""

    shard: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """The member's bytes."""
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def tar_shards(shards: Sequence[Path], name: str) -> LabelledImages:
    """Images of tar files; the label of an image is the text of the `.cls` member of the same name, where there is one.

    Where there is none at all and the images are in several folders, the folders are the classes.
    A label without an image stays in the set, as a missing image. Raises InputError for a shard that ends too early.
    """
    paths: list[Path] = []
    stored: list[StoredImage] = []
    written: list[str | None] = []
    for shard in shards:
        pictures, labels = _tar_members(shard)
        for key in [*pictures, *(key for key in labels if key not in pictures)]:
            member_name, member = pictures.get(key, (f"{key}.jpg", Absent()))
            paths.append(inside(shard, member_name))
            stored.append(member)
            written.append(labels.get(key))
    folders = {path.parent for path in paths}
    if len(folders) > 1 and not folders & set(shards) and not any(written):
        written = [printable(path.parent.name) for path in paths]
    return replace(named(name, paths, written), stored=stored)


def _tar_members(shard: Path) -> tuple[dict[str, tuple[str, StoredImage]], dict[str, str]]:
    """By key (the path up to the last dot): (name, image) of every image, and the text of every `.cls` member."""
    pictures: dict[str, tuple[str, StoredImage]] = {}
    labels: dict[str, str] = {}
    damaged = f"{shard} cannot be read as a tar file to its end: it is damaged, incomplete or compressed; download or unpack it again."
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                place = PurePosixPath(member.name)
                key = str(place.with_suffix("")) if place.suffix else member.name
                found = TarMember(shard, member.offset_data, member.size)
                if not member.isreg() or member.issparse() or place.name.startswith("."):
                    continue
                if place.suffix.lower() in SUFFIXES:
                    if key in pictures:
                        raise InputError(f"{shard} holds two images called {key}: each image must have a name of its own.")
                    pictures[key] = (member.name, found)
                elif place.suffix == ".cls":
                    labels[key] = found.read().decode().strip()
            end = archive.offset  # where the closing block of zeros begins
    except (tarfile.TarError, UnicodeDecodeError, EOFError):
        raise InputError(damaged) from None
    if shard.stat().st_size < end + TAR_BLOCK:
        raise InputError(damaged)
    return pictures, labels
