"""Images in tar files, read in place."""

import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO

from ivit_helpers.errors import InputError
from ivit_helpers.images.aside import SUFFIXES, LeftAside, classified
from ivit_helpers.images.labelled_images import Absent, LabelledImages, StoredImage, inside, named, printable
from ivit_helpers.images.regular import START, open_regular

BLOCK = tarfile.BLOCKSIZE
RECORDS = (BLOCK, 1024, 2048, 4096, 8192, tarfile.RECORDSIZE)
"""Bytes to whose multiple programs fill up a tar file with zeros. Members that a few more zeros hide would be missed without a word"""
MOST_MEMBERS = 3_000_000
"""Members of one file: ImageNet's 1.3 million training images with a label each"""
MOST_HEADER = 64 * 1024
"""Bytes of a member's extended header: a name has at most 4,096, and tarfile keeps a header in memory"""
MOST_NAME = 4_096
"""Characters of a member's name, as of a path in Linux"""
MOST_LABEL = 4_096
"""Bytes of a .cls member"""
MOST_IMAGE = 2**30
"""Bytes of an image file: no photograph comes near it"""
LONG_NUMBER = re.compile(rb"\d{100}")
"""Some of tarfile's patterns take a time that grows with the square of a number's length"""


@dataclass(frozen=True, slots=True)
class TarMember:
    """An image file in an uncompressed tar file."""

    shard: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """The member's bytes. Raises OSError for more than MOST_IMAGE of them."""
        if self.size > MOST_IMAGE:
            raise OSError(f"an image file of {self.size:,} bytes, and {MOST_IMAGE:,} is the most that is read")
        with open_regular(self.shard) as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass
class Members:
    """What a tar file holds. A key is a member's path up to the last dot."""

    pictures: dict[str, tuple[str, StoredImage]] = field(default_factory=dict)
    """Name and image"""
    labels: dict[str, str] = field(default_factory=dict)
    """Text of the `.cls` member"""
    aside: list[LeftAside] = field(default_factory=list)


def tar_shards(shards: Sequence[Path], name: str) -> LabelledImages:
    """Images of tar files; the label of an image is the text of the `.cls` member of the same name, where there is one.

    Where there is none at all and the images are in several folders, the folders are the classes.
    A label without an image stays in the set, as a missing image. Raises InputError for a shard that ends too early or that holds
    something after its end.
    """
    paths: list[Path] = []
    stored: list[StoredImage] = []
    written: list[str | None] = []
    aside: list[LeftAside] = []
    for shard in shards:
        found = tar_members(shard)
        for key in [*found.pictures, *(key for key in found.labels if key not in found.pictures)]:
            member_name, member = found.pictures.get(key, (f"{key}.jpg", Absent()))
            paths.append(inside(shard, member_name))
            stored.append(member)
            written.append(found.labels.get(key))
        aside += found.aside
    folders = {path.parent for path in paths}
    if len(folders) > 1 and not folders & set(shards) and not any(written):
        written = [printable(path.parent.name) for path in paths]
    return replace(named(name, paths, written), stored=stored, left_aside=aside)


def tar_members(shard: Path) -> Members:
    """Everything in a tar file. Raises InputError for a file that is damaged, incomplete or compressed."""
    found = Members()
    problem = ""
    try:
        with open_regular(shard) as file:
            for member in _headers(_Headers(file)):
                _sort(member, shard, file, found)
            problem = _after_the_end(file)
    except InputError:
        raise
    except RecursionError:
        problem = "hundreds of headers for one member"
    except Exception as error:  # tarfile lets ValueError, OverflowError and more through for damaged headers
        problem = (str(error) or type(error).__name__).splitlines()[0]
    if problem:
        raise InputError(
            f"{shard} cannot be read as a tar file to its end ({problem}): it is damaged, incomplete or compressed; "
            "download, unpack or pack it again."
        )
    return found


class _Headers:
    """A file from which tarfile reads headers. They are short, and each begins after the one before it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = os.fstat(file.fileno()).st_size

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes, and {MOST_HEADER:,} is the most that is read")
        content = self.file.read(size)
        if size > BLOCK and LONG_NUMBER.search(content):
            raise tarfile.ReadError("a header with a number of more than 99 digits")
        return content

    def seek(self, position: int) -> int:
        if position < self.file.tell():
            raise tarfile.ReadError("a member that ends before it begins")
        if position > self.size:
            raise tarfile.ReadError("a member that ends after the file")
        return self.file.seek(position)

    def tell(self) -> int:
        return self.file.tell()


def _headers(headers: _Headers) -> Iterator[tarfile.TarInfo]:
    count = 0
    with tarfile.open(fileobj=headers, mode="r:") as archive:  # type: ignore[call-overload]
        while (member := archive.next()) is not None:
            archive.members.clear()  # tarfile would keep them all
            count += 1
            if count > MOST_MEMBERS:
                raise tarfile.ReadError(f"more than {MOST_MEMBERS:,} members")
            if len(member.name) > MOST_NAME:
                raise tarfile.ReadError(f"a member's name of {len(member.name):,} characters")
            yield member
        headers.file.seek(archive.offset)


def _sort(member: tarfile.TarInfo, shard: Path, file: IO[bytes], found: Members) -> None:
    """Put a member where it belongs; the file stays where it is."""
    place = PurePosixPath(member.name)
    key = str(place.with_suffix("")) if place.suffix else member.name
    name = printable(f"{shard.name}/{member.name.lstrip('/')}")
    if member.isdir() and not member.size and place.suffix.lower() not in SUFFIXES:
        return
    if not member.isreg() or member.issparse():
        reason = "a link, sparse file or device in a tar file, or a folder with content, which is not read"
        found.aside.append(LeftAside(name, reason, image=True))
    elif place.name.startswith("."):
        found.aside.append(LeftAside(name, "hidden", image=False))
    elif place.suffix.lower() in SUFFIXES:
        if key in found.pictures:
            raise InputError(
                f"{shard} holds two images called {printable(key)}: each image must have a name of its own."
            )
        found.pictures[key] = (member.name, TarMember(shard, member.offset_data, member.size))
    elif place.suffix == ".cls":
        if member.size > MOST_LABEL:
            raise InputError(
                f"{name} has {member.size:,} bytes: a .cls member holds one class name of at most {MOST_LABEL:,}."
            )
        if key in found.labels:
            raise InputError(f"{shard} holds two labels called {printable(key)}: give each image one.")
        found.labels[key] = printable(_content(member, file, member.size).decode(errors="surrogateescape").strip())
    else:
        found.aside.append(classified(name, place, _content(member, file, START)))


def _content(member: tarfile.TarInfo, file: IO[bytes], most: int) -> bytes:
    here = file.tell()
    file.seek(member.offset_data)
    content = file.read(min(most, member.size))
    file.seek(here)
    return content


def _after_the_end(file: IO[bytes]) -> str:
    """What is wrong after the last member, in words: there must be zeros, and as many as fill up a record."""
    began = file.tell()
    rest = file.read(max(RECORDS) + 2 * BLOCK + 1)
    if len(rest) < BLOCK:
        return "it ends without an end mark"
    if rest.strip(b"\0"):
        return f"there is more after the end mark at byte {began:,}"
    whole = began + 2 * BLOCK
    if len(rest) > BLOCK and not any(began + len(rest) == whole + -whole % record for record in RECORDS):
        return f"more zeros follow byte {began:,} than fill up a tar file: the rest of it did not arrive"
    return ""
