"""Images in folders: one folder for each class, or one folder for all."""

from dataclasses import replace
from pathlib import Path

from ivit_helpers.errors import InputError
from ivit_helpers.images.labelled_images import SUFFIXES, LabelledImages, named
from ivit_helpers.paths import DATA


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


def flat_folder(place: Path) -> LabelledImages:
    """The images below a folder, without labels; none where there is no such folder."""
    paths = images_below(place)
    return LabelledImages(place.name, paths, [None] * len(paths), [], place)


def digits() -> LabelledImages:
    """The embedded digits: the images that the embedded miniature knows."""
    return class_folders(DATA / "digits", "digits")
