"""Images in folders: one folder for each class, or one folder for all."""

from dataclasses import replace
from pathlib import Path

from ivit_helpers.errors import InputError
from ivit_helpers.images.labelled_images import SUFFIXES, LabelledImages, named, printable
from ivit_helpers.paths import DATA


def images_below(folder: Path) -> list[Path]:
    """Every image file of a folder and of the folders in it, sorted; hidden files, which begin with a dot, are left out."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def class_folders(folder: Path, name: str | None = None) -> LabelledImages:
    """Read a folder with one folder of images per class. Classes are sorted by name; names that are all numbers are class indices."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}: give class folders, a flat folder with labels=FILE, or parquet or tar files.")
    folders = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    names = [printable(entry.name) for entry in folders]
    pairs = [(path, name) for entry, name in zip(folders, names, strict=True) for path in images_below(entry)]
    if not pairs:
        raise InputError(f"{folder} holds no class folders with images; expected {folder}/<class>/<image>.png or .jpg.")
    found = named(name or folder.name, [path for path, _ in pairs], [name for _, name in pairs], names)
    return replace(found, root=folder)


def flat_folder(place: Path) -> LabelledImages:
    """The images below a folder, without labels; an empty set where there is no such folder."""
    paths = images_below(place)
    return LabelledImages(place.name, paths, [None] * len(paths), [], place)


def digits() -> LabelledImages:
    """The embedded digits, whose ten classes are those of the embedded miniature."""
    return class_folders(DATA / "digits", "digits")
