"""Where images lie and how they are labelled: class folders, flat folders with a text, hub parquet, tar shards.

Archives are read in place, image by image, in any order; nothing is unpacked to the disk.
"""

import functools
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ivit_helpers import images as image_files
from ivit_helpers import label_files
from ivit_helpers.errors import InputError
from ivit_helpers.images import SUFFIXES, LabelledImages, Stored, images_below, named
from ivit_helpers.label_files import Absent
from ivit_helpers.label_rules import RULES

if TYPE_CHECKING:
    from ivit_helpers.parameters import AccuracyParameters

TAR_BLOCK = 512
EMBEDDED_SETS = ("digits", "synthetic")


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


@dataclass(frozen=True)
class ParquetCell:
    """An image file in a parquet table's column of {bytes, path}."""

    shard: Path
    column: str
    group: int
    row: int

    def read(self) -> bytes:
        """The cell's bytes."""
        content: bytes | None = _row_group(self.shard, self.column, self.group)[self.row]["bytes"]
        if content is None:
            raise FileNotFoundError
        return content


@functools.lru_cache(maxsize=2)
def _row_group(shard: Path, column: str, group: int) -> list[Any]:
    """The images of one row group, about 10 MB: images are mostly asked for in order, and a group is the least that can be read."""
    rows: list[Any] = _parquet_file(shard).read_row_group(group, columns=[column]).column(column).to_pylist()
    return rows


def _parquet_file(shard: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise InputError(f"{shard} is a parquet file, and pyarrow is not installed: pip install 'ivit-helpers[imagenet]'.") from None
    try:
        return parquet.ParquetFile(shard)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{shard} cannot be read as parquet ({error}): the file is damaged or incomplete, download it again.") from None


def tar_shards(shards: Sequence[Path], name: str) -> LabelledImages:
    """Images of tar files; the label of an image is the text of the `.cls` member of the same name, where there is one.

    Where there is none at all and the images lie in several folders, their folders are the classes, as in packed class folders.
    A label without its image stays in the set, as a missing one. Raises InputError for a shard that ends too early.
    """
    paths: list[Path] = []
    stored: list[Stored] = []
    written: list[str | None] = []
    for shard in shards:
        pictures, labels = _tar_members(shard)
        for key in [*pictures, *(key for key in labels if key not in pictures)]:
            member_name, member = pictures.get(key, (f"{key}.jpg", Absent()))
            paths.append(_inside(shard, member_name))
            stored.append(member)
            written.append(labels.get(key))
    folders = {path.parent for path in paths}
    if len(folders) > 1 and not folders & set(shards) and not any(written):
        written = [path.parent.name for path in paths]
    return replace(named(name, paths, written), stored=stored)


def _tar_members(shard: Path) -> tuple[dict[str, tuple[str, Stored]], dict[str, str]]:
    """By key (the path up to the last dot): (name, image) of every image, and the text of every `.cls` member."""
    pictures: dict[str, tuple[str, Stored]] = {}
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
                    labels[key] = found.read().decode("ascii").strip()
            end = archive.offset  # where the closing block of zeros lies
    except (tarfile.TarError, UnicodeDecodeError, EOFError):
        raise InputError(damaged) from None
    if shard.stat().st_size < end + TAR_BLOCK:
        raise InputError(damaged)
    return pictures, labels


def parquet_shards(shards: Sequence[Path], name: str) -> LabelledImages:
    """Images of hub parquet files: a column of {bytes, path}, and a column `label` of class indices, -1 for none."""
    paths: list[Path] = []
    stored: list[Stored] = []
    written: list[str | None] = []
    for shard in shards:
        file = _parquet_file(shard)
        column = _image_column(file.schema_arrow, shard)
        # Only the names are read of the images; a parquet file keeps them apart from the bytes.
        table = file.read(columns=[f"{column}.path", "label"])
        paths += _row_paths(shard, [cell["path"] if cell else None for cell in table.column(column).to_pylist()])
        stored += _cells(shard, column, file.metadata)
        written += [None if label is None or label == -1 else str(label) for label in table.column("label").to_pylist()]
    return replace(named(name, paths, written), stored=stored)


def _inside(shard: Path, name: str) -> Path:
    """What an image of an archive is called; a name from the root, as archives may hold, stays inside."""
    return shard / name.lstrip("/")


def _row_paths(shard: Path, names: Sequence[str | None]) -> list[Path]:
    """What the images of a shard are called: by their own name, and by their row as well where that is needed to tell them apart."""
    often = Counter(names)
    return [
        _inside(shard, name if name and often[name] == 1 else f"row {row}/{(name or '').lstrip('/')}") for row, name in enumerate(names)
    ]


def _cells(shard: Path, column: str, metadata: Any) -> list[Stored]:
    groups = range(metadata.num_row_groups)
    return [ParquetCell(shard, column, group, row) for group in groups for row in range(metadata.row_group(group).num_rows)]


def _image_column(schema: Any, shard: Path) -> str:
    for field in schema:
        parts = {part.name for part in field.type} if field.type.num_fields else set()
        if {"bytes", "path"} <= parts and "label" in schema.names:
            return str(field.name)
    raise InputError(
        f"{shard} has the columns {', '.join(schema.names)}: expected an image column of bytes and path, and a column `label`."
    )


ARCHIVES: dict[str, Callable[[Sequence[Path], str], LabelledImages]] = {".parquet": parquet_shards, ".tar": tar_shards}


def _archives(place: Path) -> tuple[str, list[Path]]:
    """Suffix and files of the archives at a place or in its folder data/; of several splits, the validation split."""
    for suffix in ARCHIVES:
        files = [place] if place.suffix == suffix else sorted([*place.glob(f"*{suffix}"), *place.glob(f"data/*{suffix}")])
        if files:
            absent = [file for file in files if not file.is_file()]
            if absent:
                raise InputError(f"There is no file {absent[0]}: give the path of a parquet or tar file, or their folder.")
            return suffix, [file for file in files if "val" in file.name] or files
    return "", []


def read(data: str, labels: str = "") -> LabelledImages:
    """The images at a place, with the labels that the layout itself or the text file `labels` gives, as they are written there."""
    place = Path(data).expanduser()
    suffix, shards = _archives(place)
    if shards:
        found = ARCHIVES[suffix](shards, place.stem if place.is_file() else place.name)
        found = replace(found, root=place.parent if place.is_file() else place)
    elif not labels:
        return image_files.class_folders(place)
    elif not place.is_dir():
        raise InputError(f"There is no folder {place}: `data` must be a folder of images, or parquet or tar files.")
    else:
        found = _flat(place)
    return label_files.apply(found, label_files.read_labels(labels), place) if labels else found


def image_set(asked: "AccuracyParameters") -> LabelledImages:
    """The labelled images that the parameters of the accuracy notebook ask for.

    Raises InputError where files are missing, or where labels are no classes of the set.
    """
    if asked.data in EMBEDDED_SETS:
        if asked.image_set != "folder" or asked.labels:
            raise InputError(f"data={asked.data!r} has labels of its own: leave out image_set and labels, or give other images.")
        return image_files.labelled(asked.data, asked.limit, asked.seed)
    rule = RULES.get(asked.image_set)
    if rule is None:
        found = _not_a_set(read(asked.data, asked.labels))
    elif rule.name == "real":
        found = rule.apply(_unlabelled(asked.data), asked.labels)
    else:
        found = rule.apply(read(asked.data, asked.labels))
    if rule and all(label is None for label in found.labels):
        raise InputError(
            f"None of the {len(found):,} images of data={asked.data!r} has a label: give labels=FILE, or images in class folders."
        )
    return found.drawn(asked.limit, asked.seed)


def _not_a_set(images: LabelledImages) -> LabelledImages:
    """The same images, called otherwise where their folder has the name of a set that has rules or figures of its own."""
    known = images.name in RULES or images.name in EMBEDDED_SETS
    return replace(images, name=f"folder {images.name}") if known else images


def _unlabelled(data: str) -> LabelledImages:
    """Images whose labels come from elsewhere by their names, whatever layout they lie in."""
    place = Path(data).expanduser()
    if _archives(place)[1]:
        return read(data)
    found = _flat(place)
    if not len(found):
        raise InputError(f"There are no images in {place}: `data` must be a folder of images, or parquet or tar files.")
    return found


def _flat(place: Path) -> LabelledImages:
    """The images below a folder, without labels; none where there is no such folder."""
    paths = images_below(place)
    return LabelledImages(place.name, paths, [None] * len(paths), [], place)
