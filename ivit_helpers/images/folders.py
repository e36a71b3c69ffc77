"""Images in folders: one folder for each class, or one folder for all.

Links are followed, as torchvision's ImageFolder follows them: a folder that two names lead to is read under both. A link back to a
folder that contains it is not followed, because the images there are read already.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ivit_helpers.errors import InputError
from ivit_helpers.images.aside import SUFFIXES, LeftAside, classified_file
from ivit_helpers.images.compact import Paths
from ivit_helpers.images.labelled_images import LabelledImages, named, printable
from ivit_helpers.paths import DATA

MOST_FOLDERS = 100_000
"""Folders of one set: ImageNet-21k has 21,841"""
MOST_NAMES = 16
"""Of one folder, by links: links that lead to each other multiply without end"""
Identity = tuple[int, int]
"""Device and inode of a folder"""


@dataclass
class Tree:
    """All that is below a folder."""

    top: Path
    images: Sequence[Path] = ()
    """Files with the suffix of an image, sorted"""
    aside: list[LeftAside] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    visits: Counter[Identity] = field(default_factory=Counter)
    _unsorted: list[str] = field(default_factory=list)

    def found_image(self, path: Path) -> None:
        """Keep a file with the suffix of an image until all are there."""
        self._unsorted.append(str(path).replace(os.sep, "\0"))  # sorts as the path does: part by part

    def settle(self) -> None:
        """Sort the images."""
        self._unsorted.sort()
        self.images = Paths(Path(text.replace("\0", os.sep)) for text in self._unsorted)
        self._unsorted = []

    def visit(self, folder: Path, own: Identity) -> None:
        """Count a folder. Raises InputError for too many, or too many names of one."""
        self.folders.append(folder)
        self.visits[own] += 1
        if self.visits[own] > MOST_NAMES or len(self.folders) > MOST_FOLDERS:
            many = (
                f"{len(self.folders):,} folders"
                if self.visits[own] <= MOST_NAMES
                else f"more than {MOST_NAMES} links to one folder"
            )
            raise InputError(
                f"{self.top} holds {many} (at {self.name(folder)[:80]}): give the folder of one image set."
            )

    def leave(self, path: Path, reason: str, *, image: bool) -> None:
        """Name something that is not an image of the set."""
        self.aside.append(LeftAside(self.name(path), reason, image))

    def name(self, path: Path) -> str:
        """What a reader calls a path in the tree."""
        return printable(path.relative_to(self.top).as_posix())


def tree(top: Path) -> Tree:
    """Read all folders below `top`. Raises InputError for more than MOST_FOLDERS of them, or MOST_NAMES of one."""
    found = Tree(top)
    real = top.resolve()
    waiting = [(top, frozenset(map(_identity, (real, *real.parents))))]
    while waiting:
        waiting += _read(*waiting.pop(), found)
    found.settle()
    return found


def _identity(folder: Path) -> Identity:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _read(folder: Path, around: frozenset[Identity], found: Tree) -> Iterator[tuple[Path, frozenset[Identity]]]:
    """Sort the entries of a folder; gives the folders to read next, each with the folders around it."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        found.leave(folder, f"a folder that cannot be read ({error.strerror})", image=True)
        return
    if not listed:
        found.leave(folder, "an empty folder", image=False)
    for entry in listed:
        path = folder / entry.name
        try:
            if entry.name.startswith("."):
                found.leave(path, "hidden", image=False)
            elif entry.is_dir():
                own = _identity(path)
                if own in around:
                    found.leave(path, "a link back to a folder that contains it", image=False)
                else:
                    found.visit(path, own)
                    yield path, around | {own}
            else:
                _sort_file(path, entry, found)
        except OSError as error:
            found.leave(path, f"cannot be read ({error.strerror})", image=True)


def _sort_file(path: Path, entry: "os.DirEntry[str]", found: Tree) -> None:
    is_image = path.suffix.lower() in SUFFIXES
    gone = entry.is_symlink() and not path.exists()  # an image that is missing
    if is_image and (entry.is_file() or gone):
        found.found_image(path)
    elif entry.is_file():
        found.aside.append(classified_file(found.name(path), path))
    elif gone:
        found.leave(path, "a link to nothing", image=True)
    else:
        found.leave(path, "a pipe, socket or device", image=is_image)


def class_folders(folder: Path, name: str | None = None) -> LabelledImages:
    """Read a folder with one folder of images per class. Classes are sorted by name; names that are all numbers are class indices."""
    if not folder.is_dir():
        raise InputError(
            f"There is no folder {folder}: give class folders, a flat folder with labels=FILE, or parquet or tar files."
        )
    found = tree(folder)
    names = {path.name: printable(path.name) for path in found.folders if path.parent == folder}
    inside = Paths(path for path in found.images if path.parent != folder)
    if not len(inside):
        raise InputError(f"{folder} holds no class folders with images; expected {folder}/<class>/<image>.png or .jpg.")
    for path in found.images:
        if path.parent == folder:
            found.leave(path, "an image beside the class folders", image=True)
    images = named(
        name or folder.name,
        inside,
        [names[path.relative_to(folder).parts[0]] for path in inside],
        sorted(names.values()),
    )
    return replace(images, root=folder, left_aside=found.aside)


def flat_folder(place: Path) -> LabelledImages:
    """The images below a folder, without labels; an empty set where there is no such folder."""
    found = tree(place) if place.is_dir() else Tree(place)
    return LabelledImages(place.name, found.images, [None] * len(found.images), [], place, left_aside=found.aside)


def images_below(place: Path) -> LabelledImages:
    """The images below a folder, labelled by its class folders where it has some. Raises InputError where there is not one image."""
    if not place.is_dir():
        raise InputError(f"There is no folder {printable(str(place))}: give a folder of images.")
    found = flat_folder(place)
    if not len(found):
        raise InputError(f"There are no images in {printable(str(place))}: give a folder of images.")
    return class_folders(place) if all(path.parent != place for path in found.paths) else found


def digits() -> LabelledImages:
    """The embedded digits, whose ten classes are those of the embedded miniature."""
    return class_folders(DATA / "digits", "digits")
