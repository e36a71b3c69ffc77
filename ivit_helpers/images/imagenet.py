"""The six ImageNet evaluation sets: their classes, which of them may be answered, and what counts as right.

The rules are those of OpenGVLab/InternVL's classification/README.md and of the papers that published the sets.
"""

import functools
import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ivit_helpers.errors import InputError
from ivit_helpers.images.labelled_images import Label, LabelledImages, is_number
from ivit_helpers.images.regular import read_text
from ivit_helpers.paths import DATA

VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})")
VALIDATION_IMAGES = 50_000
MOST_JSON = 16 * 2**20
"""Bytes of real.json: 50,000 short lists take less than one million"""


def _listed(name: str) -> tuple[str, ...]:
    return tuple((DATA / "imagenet" / f"{name}.txt").read_text().split())


@functools.cache
def synsets() -> tuple[str, ...]:
    """The 1000 synset ids of ImageNet-1K, sorted; a class index is the position in this list."""
    return _listed("synsets")


@functools.cache
def devkit_order() -> tuple[str, ...]:
    """The same synset ids in the order of the ILSVRC2012 development kit: ILSVRC2012_ID 1 comes first."""
    return _listed("devkit")


@functools.cache
def _index() -> dict[str, int]:
    return {synset: index for index, synset in enumerate(synsets())}


@functools.cache
def subset(name: str) -> tuple[int, ...]:
    """The class indices of ImageNet-A ("a") or ImageNet-R ("r"), 200 each, in order."""
    return tuple(_index()[synset] for synset in _listed(name))


def in_timm(name: str) -> Path | None:
    """One of timm's data files. The package is found, never imported."""
    spec = importlib.util.find_spec("timm")
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((path for folder in folders if (path := Path(folder) / "data" / "_info" / name).exists()), None)


@functools.cache
def readable_names() -> tuple[str, ...]:
    """For each class its synset id, with the first word that WordNet has for it where timm is installed: "n01440764 tench"."""
    path = in_timm("imagenet_synset_to_lemma.txt")
    lines = path.read_text().splitlines() if path else []
    words = {synset: text.split(",")[0] for synset, _, text in (line.partition("\t") for line in lines)}
    return tuple(f"{synset} {words.get(synset, '')}".strip() for synset in synsets())


def real_labels(file: str = "") -> list[list[int]]:
    """The right classes of each of the 50,000 validation images, in their order: from `file`, else from timm's wheel.

    Raises InputError where there is neither, or where the file is something else.
    """
    path = Path(file).expanduser() if file else in_timm("imagenet_real_labels.json")
    if path is None:
        raise InputError(
            "image_set=real needs the ReaL labels: pip install 'ivit-helpers[imagenet]', or give real.json "
            "(github.com/google-research/reassessed-imagenet) as `labels`."
        )
    try:
        found = json.loads(read_text(path, MOST_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"labels={str(path)!r} cannot be read as ReaL labels ({error}): give the published real.json."
        ) from None
    lists = isinstance(found, list) and all(isinstance(right, list) for right in found)
    if (
        not lists
        or len(found) != VALIDATION_IMAGES
        or not all(type(index) is int and 0 <= index < len(synsets()) for right in found for index in right)
    ):
        raise InputError(
            f"{path} does not hold {VALIDATION_IMAGES:,} lists of class indices: give the published real.json."
        )
    return list(found)


@dataclass(frozen=True)
class LabelRule:
    """How one of the sets is labelled and scored."""

    name: str
    title: str
    restricted: bool = False
    """Only the logits of the set's own 200 classes are looked at"""
    upright: bool = False
    """The EXIF orientation is applied, because the authors read this set with OpenCV; the others they read with Pillow"""

    @property
    def answers(self) -> tuple[int, ...]:
        """The class indices that may be answered."""
        return subset(self.name) if self.restricted else tuple(range(len(synsets())))

    def apply(self, images: LabelledImages, labels: str = "") -> LabelledImages:
        """The same images under this rule: classes are the 1000 synsets, labels are indices into them.

        labels: for ReaL its real.json; empty: timm's copy. Raises InputError for a label that the set does not have.
        """
        chosen = self._real(images.paths, labels) if self.name == "real" else self._understood(images)
        answers = self.answers if self.restricted else None
        return replace(images, name=self.name, labels=chosen, classes=synsets(), answers=answers, upright=self.upright)

    def _understood(self, images: LabelledImages) -> list[Label]:
        """Class indices from labels that are written as synset ids or as numbers.

        In A and R numbers below 200 are positions in the set's own sorted classes, as folder readers count them.
        """
        used = {label for label in images.labels if isinstance(label, int)}
        words = {label: images.classes[label] for label in used}
        own = self.restricted and all(is_number(word) and int(word) < len(self.answers) for word in words.values())
        index = {
            label: self.answers[int(word)] if own else self._class_index(word, images) for label, word in words.items()
        }
        return [index[label] if isinstance(label, int) else None for label in images.labels]

    def _class_index(self, word: str, images: LabelledImages) -> int:
        found = int(word) if is_number(word) else _index().get(word, -1)
        if found not in self.answers:
            raise InputError(
                f"{images.name} has the label {word!r}, which is not a class of {self.title}: expected synset ids such as "
                f"{synsets()[self.answers[0]]}, or class indices in their sorted order; is image_set={self.name} the right set?"
            )
        return found

    def _real(self, paths: Sequence[Path], file: str) -> list[Label]:
        right = real_labels(file)
        return [tuple(right[validation_number(path) - 1]) or None for path in paths]


def validation_number(path: Path) -> int:
    """The number, from 1 to 50,000, of an ImageNet validation image, from its name. Raises InputError for any other name."""
    found = VALIDATION_NAME.search(path.name)
    if not found or not 1 <= int(found[1]) <= VALIDATION_IMAGES:
        raise InputError(
            f"{path} is not the name of a validation image (ILSVRC2012_val_00000001.JPEG): ReaL labels are kept by these names, "
            "so give the images under their own."
        )
    return int(found[1])


RULES = {
    rule.name: rule
    for rule in (
        LabelRule("imagenet-1k", "ImageNet-1K", upright=True),
        LabelRule("real", "ImageNet-ReaL", upright=True),
        LabelRule("v2", "ImageNet-V2"),
        LabelRule("a", "ImageNet-A", restricted=True),
        LabelRule("r", "ImageNet-R", restricted=True),
        LabelRule("sketch", "ImageNet-Sketch"),
    )
}
