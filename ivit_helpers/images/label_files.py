"""Text files that label images: `name label` lines, or one label a line in the order of the validation images."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ivit_helpers.errors import InputError
from ivit_helpers.images.apart import MIB, ParserError, apart
from ivit_helpers.images.imagenet import devkit_order
from ivit_helpers.images.labelled_images import MOST_WORD, Absent, LabelledImages, is_number, named, printable
from ivit_helpers.images.regular import read_text

EXPECTED = (
    "lines of an image name and its class (ILSVRC2012_val_00000001.JPEG 65, or ... n01751748), or one class a line in the order of the "
    "validation images, as in the devkit's ILSVRC2012_validation_ground_truth.txt"
)
MOST_BYTES = 128 * MIB
"""Of a label file: ImageNet's 1.3 million training images take 42 MB"""
MOST_LINES = 3_000_000
"""Of a label file; each takes about 300 bytes of memory"""
META_MEMORY = 512 * MIB
"""For the devkit's meta.mat, which has 0.05 MiB"""


def read_labels(file: str) -> dict[str, str]:
    """Image name -> label as it is written, a synset id or a number. Raises InputError for any other text."""
    path = Path(file).expanduser()
    try:
        text = read_text(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        raise InputError(f"labels={file!r} cannot be read ({error}): give a text file with {EXPECTED}.") from None
    if text.count("\n") > MOST_LINES:
        raise InputError(f"{path} has more than {MOST_LINES:,} lines: expected {EXPECTED}.")
    lines = [words for line in text.split("\n") if (words := line.split())]
    longest = max((word for words in lines for word in words[:2]), key=len, default="")
    if len(longest) > MOST_WORD:
        raise InputError(f"{path} has a word of {len(longest):,} characters ({longest[:20]}...): expected {EXPECTED}.")
    widths = {len(words) for words in lines}
    if widths == {1}:
        written = _in_validation_order([words[0] for words in lines], path)
    elif widths == {2}:
        written = [(words[0], printable(words[1])) for words in lines]
    else:
        shown = f"{sorted(widths)[:5]}{' and more' if len(widths) > 5 else ''}"
        raise InputError(f"{path} holds lines of {shown} words: expected {EXPECTED}.")
    name, count = Counter(name for name, _ in written).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path} names {name} {count} times: give each image one line.")
    return dict(written)


def _in_validation_order(labels: Sequence[str], path: Path) -> list[tuple[str, str]]:
    """Names for labels that have none. Numbers are ILSVRC2012_IDs, which count from 1 in the devkit's own order."""
    if all(map(is_number, labels)):
        order = devkit_synsets(path.parent / "meta.mat")
        if not all(1 <= int(label) <= len(order) for label in labels):
            raise InputError(
                f"{path} holds numbers outside 1 to {len(order)}, so they are not ILSVRC2012_IDs: expected {EXPECTED}."
            )
        labels = [order[int(label) - 1] for label in labels]
    return [(f"ILSVRC2012_val_{number:08d}.JPEG", label) for number, label in enumerate(labels, 1)]


def devkit_synsets(meta: Path) -> tuple[str, ...]:
    """The synset of each ILSVRC2012_ID, from 1: from the devkit's meta.mat if it is beside the labels, else the known order."""
    if not meta.exists():
        return devkit_order()
    try:
        found = json.loads(apart(META_MEMORY).call("devkit_file:synsets_by_id", os.fsencode(meta).hex()))
    except ParserError as error:
        raise InputError(
            f"{meta} cannot be read as the devkit's meta.mat ({error}): restore it, or move it away."
        ) from None
    return tuple(found)


def apply_labels(images: LabelledImages, written: dict[str, str], folder: Path) -> LabelledImages:
    """Label images by their file names; folders and suffix are ignored. A name without an image stays in the set, as a missing image."""
    labels = {PurePosixPath(name).stem: label for name, label in written.items()}
    there = Counter(path.stem for path in images.paths)
    for stems in (there, Counter(PurePosixPath(name).stem for name in written)):
        stem, count = max(stems.items(), key=lambda item: item[1], default=("", 0))
        if count > 1:
            raise InputError(
                f"{count} images of {folder} are called {stem}, so labels cannot be told apart by file name: rename them."
            )
    absent = [PurePosixPath(name).name for name in written if PurePosixPath(name).stem not in there]
    if len(absent) == len(written):
        raise InputError(
            f"None of the {len(written):,} images that the labels name is in {folder}: do the two belong together?"
        )
    paths = [*images.paths, *(folder / name for name in absent)]
    found = named(images.name, paths, [labels.get(path.stem) for path in paths])
    return replace(
        found,
        root=images.root,
        left_aside=images.left_aside,
        stored=images.stored and [*images.stored, *(Absent() for _ in absent)],
    )
