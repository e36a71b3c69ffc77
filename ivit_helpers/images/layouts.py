"""Where the images of an accuracy run are, and how they are labelled."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ivit_helpers.errors import InputError
from ivit_helpers.images.aside import LeftAside
from ivit_helpers.images.folders import class_folders, digits, flat_folder, tree
from ivit_helpers.images.imagenet import RULES
from ivit_helpers.images.label_files import apply_labels, read_labels
from ivit_helpers.images.labelled_images import LabelledImages, synthetic_images
from ivit_helpers.images.parquet import parquet_shards
from ivit_helpers.images.tar import tar_shards

if TYPE_CHECKING:
    from ivit_helpers.record.parameters import AccuracyParameters

EMBEDDED = {"digits", "synthetic"}
"""Sets that need no files, by the `data` parameter"""
ARCHIVES: dict[str, Callable[[Sequence[Path], str], LabelledImages]] = {".parquet": parquet_shards, ".tar": tar_shards}


OTHER_SPLITS = ("train", "test")
"""Words in the names of archives that are left out where there are some of the validation split"""


def _archives(place: Path) -> tuple[str, list[Path], list[Path]]:
    """Suffix and files of the archives at a place or in its folder data/; where there are several splits, of the validation split.

    The third are the archives that were left out for it.
    """
    for suffix in ARCHIVES:
        files = (
            [place] if place.suffix == suffix else sorted([*place.glob(f"*{suffix}"), *place.glob(f"data/*{suffix}")])
        )
        if files:
            absent = [file for file in files if not file.is_file()]
            if absent:
                raise InputError(
                    f"There is no file {absent[0]}: give the path of a parquet or tar file, or their folder."
                )
            chosen = [file for file in files if "val" in file.name] or files
            return suffix, chosen, [file for file in files if file not in chosen]
    return "", [], []


def _from_archives(place: Path, suffix: str, shards: Sequence[Path], others: Sequence[Path]) -> LabelledImages:
    """The images in archives, and what lies beside them."""
    found = ARCHIVES[suffix](shards, place.stem if place.is_file() else place.name)
    if place.is_file():
        return replace(found, root=place.parent)
    beside = tree(place)
    used = {beside.name(path) for path in (*shards, *others)}
    aside = [one for one in beside.aside if one.name not in used]
    for path in others:
        split = any(word in path.name for word in OTHER_SPLITS)
        reason = "another split" if split else "does not have `val` in its name, as others here have"
        aside.append(LeftAside(beside.name(path), reason, image=not split))
    aside += [LeftAside(beside.name(path), f"an image beside the {suffix} files", image=True) for path in beside.images]
    return replace(found, root=place, left_aside=[*found.left_aside, *aside])


def read_layout(data: str, labels: str = "") -> LabelledImages:
    """The images at a place, with labels as the layout itself or the text file `labels` writes them."""
    place = Path(data).expanduser()
    suffix, shards, others = _archives(place)
    if shards:
        found = _from_archives(place, suffix, shards, others)
    elif place.exists() and not place.is_dir():
        raise InputError(
            f"{place} is neither a folder nor a .parquet or .tar file: unpack an archive of another kind, and give its folder."
        )
    elif not labels:
        return class_folders(place)
    elif not place.is_dir():
        raise InputError(f"There is no folder {place}: `data` must be a folder of images, or parquet or tar files.")
    else:
        found = flat_folder(place)
    return apply_labels(found, read_labels(labels), place) if labels else found


def image_set(asked: "AccuracyParameters") -> LabelledImages:
    """The labelled images that the parameters of the accuracy notebook ask for.

    Raises InputError where files are missing, where there is not one image, or where a label is not a class of the set.
    """
    if asked.data in EMBEDDED:
        if asked.image_set != "folder" or asked.labels:
            raise InputError(
                f"data={asked.data!r} has labels of its own: leave out image_set and labels, or give other images."
            )
        return (
            digits().drawn(asked.limit, asked.seed)
            if asked.data == "digits"
            else synthetic_images(asked.limit or 64, asked.seed)
        )
    rule = RULES.get(asked.image_set)
    if rule is None:
        found = _not_a_set(read_layout(asked.data, asked.labels))
    elif rule.name == "real":
        found = rule.apply(_unlabelled(asked.data), asked.labels)
    else:
        found = rule.apply(read_layout(asked.data, asked.labels))
    if not len(found):
        raise InputError(
            f"There are no images in data={asked.data!r}: give a folder of images, or parquet or tar files that hold some."
        )
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
    if _archives(place)[1] or place.is_file():
        return read_layout(data)
    found = flat_folder(place)
    if not len(found):
        raise InputError(f"There are no images in {place}: `data` must be a folder of images, or parquet or tar files.")
    return found
