"""Where the images of an accuracy run are, and how they are labelled."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ivit_helpers.errors import InputError
from ivit_helpers.images.folders import class_folders, digits, flat_folder
from ivit_helpers.images.imagenet import RULES
from ivit_helpers.images.label_files import apply_labels, read_labels
from ivit_helpers.images.labelled_images import LabelledImages, synthetic_images
from ivit_helpers.images.parquet import parquet_shards
from ivit_helpers.images.tar import tar_shards

if TYPE_CHECKING:
    from ivit_helpers.record import AccuracyParameters

EMBEDDED = {"digits", "synthetic"}
"""Sets that need no files, by the `data` parameter"""
ARCHIVES: dict[str, Callable[[Sequence[Path], str], LabelledImages]] = {".parquet": parquet_shards, ".tar": tar_shards}


def _archives(place: Path) -> tuple[str, list[Path]]:
    """Suffix and files of the archives at a place or in its folder data/; where there are several splits, of the validation split."""
    for suffix in ARCHIVES:
        files = [place] if place.suffix == suffix else sorted([*place.glob(f"*{suffix}"), *place.glob(f"data/*{suffix}")])
        if files:
            absent = [file for file in files if not file.is_file()]
            if absent:
                raise InputError(f"There is no file {absent[0]}: give the path of a parquet or tar file, or their folder.")
            return suffix, [file for file in files if "val" in file.name] or files
    return "", []


def read_layout(data: str, labels: str = "") -> LabelledImages:
    """The images at a place, with labels as the layout itself or the text file `labels` writes them."""
    place = Path(data).expanduser()
    suffix, shards = _archives(place)
    if shards:
        found = ARCHIVES[suffix](shards, place.stem if place.is_file() else place.name)
        found = replace(found, root=place.parent if place.is_file() else place)
    elif not labels:
        return class_folders(place)
    elif not place.is_dir():
        raise InputError(f"There is no folder {place}: `data` must be a folder of images, or parquet or tar files.")
    else:
        found = flat_folder(place)
    return apply_labels(found, read_labels(labels), place) if labels else found


def image_set(asked: "AccuracyParameters") -> LabelledImages:
    """The labelled images that the parameters of the accuracy notebook ask for.

    Raises InputError where files are missing, or where a label is not a class of the set.
    """
    if asked.data in EMBEDDED:
        if asked.image_set != "folder" or asked.labels:
            raise InputError(f"data={asked.data!r} has labels of its own: leave out image_set and labels, or give other images.")
        return digits().drawn(asked.limit, asked.seed) if asked.data == "digits" else synthetic_images(asked.limit or 64, asked.seed)
    rule = RULES.get(asked.image_set)
    if rule is None:
        found = _not_a_set(read_layout(asked.data, asked.labels))
    elif rule.name == "real":
        found = rule.apply(_unlabelled(asked.data), asked.labels)
    else:
        found = rule.apply(read_layout(asked.data, asked.labels))
    if rule and all(label is None for label in found.labels):
        raise InputError(
            f"None of the {len(found):,} images of data={asked.data!r} has a label: give labels=FILE, or images in class folders."
        )
    return found.drawn(asked.limit, asked.seed)


def _not_a_set(images: LabelledImages) -> LabelledImages:
    """The same images, renamed where their folder has the name of a set that has rules or published figures."""
    known = images.name in RULES or images.name in EMBEDDED
    return replace(images, name=f"folder {images.name}") if known else images


def _unlabelled(data: str) -> LabelledImages:
    """Images in any layout, whose labels are found elsewhere by the images' names."""
    place = Path(data).expanduser()
    if _archives(place)[1]:
        return read_layout(data)
    found = flat_folder(place)
    if not len(found):
        raise InputError(f"There are no images in {place}: `data` must be a folder of images, or parquet or tar files.")
    return found
