"""Images and a model -> predictions, one row for every image.

Every image has exactly one outcome. No image is replaced by another, and none is left out of the totals.
"""

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ivit_helpers.accuracy.classes import class_indices, readable_classes
from ivit_helpers.accuracy.columns import Columns, in_pieces
from ivit_helpers.accuracy.journal import NUMBER
from ivit_helpers.device.device import Device
from ivit_helpers.errors import InputError
from ivit_helpers.images.aside import LeftAside
from ivit_helpers.images.decoding import AUTO, Decoded, batches
from ivit_helpers.images.imagenet import RULES
from ivit_helpers.images.labelled_images import Label, LabelledImages, printable
from ivit_helpers.measure.timing import timed
from ivit_helpers.record.progress import Progress
from ivit_helpers.weights.loading import Loaded

BEST = 5
TIMES = ["images", "seconds", "waited", "whole", "ended", "run", "process"]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Predictions:
    """The model's answers to every image of a set."""

    set_name: str
    classes: tuple[str, ...]
    table: pd.DataFrame
    """One row an image, whose number in the set is the index: label, outcome, reason, pixels (checksum of the network's input),
    orientation (EXIF, 1 to 8), cmyk, class1..class5, score1..score5 (softmax), margin (logit of class1 minus that of class2). The
    scores and the margin are over the classes that may be answered. Where images have several right classes, `also` holds those
    after the first, as text. `named` gives the names of the images."""
    batches: pd.DataFrame
    """One row a batch that had images, in order: images, seconds (forward pass only, synchronised), waited (seconds in which its
    images were not ready and the device had nothing to do), whole (seconds from the end of the previous batch to its own end), ended
    (seconds since 1970), run and process (which made it)"""
    answers: tuple[int, ...] = ()
    """The classes that could be answered, as indices; empty for all"""
    drawn_from: int | None = None
    """How many images the set has, where these are some drawn at random"""
    left_aside: Sequence[LeftAside] = ()
    """What is in the set and is not one of its images"""
    images: LabelledImages | None = None
    """The set, which knows the names of its images; None where the table has them"""

    @property
    def scored(self) -> pd.DataFrame:
        return self.table[self.table["outcome"] == "scored"]

    def identified(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows of the table behind the images' id, which is the same on every machine."""
        if self.images is None:
            return rows
        found = rows.copy()
        found.insert(0, "id", [self.images.identity(number) for number in rows.index])
        return found

    def named(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows of the table behind the images' id and path."""
        found = self.identified(rows)
        if self.images is not None:
            found.insert(1, "path", [printable(str(self.images.paths[number])) for number in rows.index])
        return found

    def pieces(self) -> Iterator[pd.DataFrame]:
        """The table as it is written, with names, in pieces."""
        return map(self.named, in_pieces(self.table))


def answerable(images: LabelledImages, index_of: Sequence[int], classes: int) -> tuple[int, ...]:
    """The classes that may be answered, as the model's indices; empty for all `classes` of the model.

    A published set is scored among its own classes only, even where the model has more.
    """
    allowed = (
        images.answers if images.answers is not None else range(len(images.classes)) if images.name in RULES else ()
    )
    found = tuple(index_of[number] for number in allowed)
    return found if len(found) < classes else ()


def best_answers(logits: Tensor, answers: Sequence[int] = ()) -> list[dict[str, Any]]:
    """class1..class5, score1..score5 and margin of each row of logits (B, classes), of `answers` alone where there are any.

    Empty where a logit is not finite.
    """
    allowed = torch.tensor(answers) if answers else torch.arange(logits.shape[-1])
    count = min(BEST, len(allowed))
    within = logits.float()[:, allowed]
    places = within.topk(count).indices  # of the logits, because softmax underflows to 0 for many classes
    scores = within.softmax(-1).gather(-1, places)
    found, first = allowed[places], within.gather(-1, places[:, :2])
    margins = (first[:, 0] - first[:, -1]).tolist()
    finite = logits.isfinite().all(-1).tolist()
    return [
        {f"class{k + 1}": int(found[row, k]) for k in range(count)}
        | {f"score{k + 1}": float(scores[row, k]) for k in range(count)}
        | {"margin": margins[row]}
        if finite[row]
        else {}
        for row in range(len(logits))
    ]


def _right(label: Label, index_of: Sequence[int]) -> dict[str, Any]:
    """The label's columns in the model's classes."""
    if isinstance(label, tuple):
        first, *others = (index_of[right] for right in label)
        return {"label": first, "also": " ".join(map(str, others))}
    return {"label": None if label is None else index_of[label]}


def answers_of(images: LabelledImages, loaded: Loaded) -> tuple[int, ...]:
    """The classes that may be answered, as the model's indices; empty for all. Raises InputError as `class_indices` does."""
    return answerable(images, class_indices(images, loaded.classes), len(loaded.classes))


class CardFailed(InputError):  # noqa: N818  read by people
    """A card that answers no more: it is lost, or out of memory."""


@contextmanager
def losing_a_card(device: Device) -> Iterator[None]:
    """Raise CardFailed where the device does not answer any more; other errors stay what they are."""
    try:
        yield
    except Exception as error:
        if not device.is_lost(error):
            raise
        raise CardFailed(f"{device}: {device.explain(error)}") from None


def _classify(pixels: Tensor, loaded: Loaded) -> tuple[Tensor, float]:
    """Logits (B, classes) on the CPU, and the seconds of the forward pass. Raises CardFailed."""
    out: list[Tensor] = []
    classifier, device = loaded.classifier, loaded.device
    with losing_a_card(device):
        on_device = pixels.to(device.torch_device)
        with device.inference():
            seconds = timed(lambda: out.append(classifier(on_device)), device)
        return out[0].float().cpu(), seconds


def answered(
    loaded: Loaded,
    images: LabelledImages,
    batch_size: int,
    workers: int,
    groups: Sequence[Sequence[int]] | None = None,
    processes: int = 1,
) -> Generator[tuple[Rows, dict[str, Any] | None], None, None]:
    """For each batch the rows of its images, each with its number, and what was measured of it; None where no image had pixels.

    Arguments as for `batches`. Raises CardFailed, and InputError as `class_indices` does.
    """
    index_of, answers = class_indices(images, loaded.classes), answers_of(images, loaded)
    with closing(batches(images, loaded.checkpoint.transform, batch_size, workers, groups, processes)) as decoded:
        began = time.perf_counter()
        for batch in decoded:
            waited = time.perf_counter() - began
            rows = {one.number: _row(images, one, index_of) for one in batch.images}
            measured = None
            if batch.numbers:
                logits, seconds = _classify(torch.from_numpy(batch.pixels), loaded)
                for number, best in zip(batch.numbers, best_answers(logits, answers), strict=True):
                    rows[number] |= best or {"outcome": "nonfinite", "reason": "a logit is not finite"}
                ended = time.perf_counter()
                whole, began = ended - began, ended
                measured = {
                    "images": len(batch.numbers),
                    "seconds": seconds,
                    "waited": waited,
                    "whole": whole,
                    "ended": time.time(),
                }
            yield list(rows.values()), measured


def predict(loaded: Loaded, images: LabelledImages, batch_size: int, workers: int = AUTO) -> Predictions:
    """Classify every image of a set, in order, and keep nothing on the disk. Arguments and errors as of `answered`."""
    measured: Rows = []

    def rows(found: Iterable[tuple[Rows, dict[str, Any] | None]]) -> Iterator[dict[str, Any]]:
        for some, batch in found:
            measured.extend([batch] if batch else [])
            progress.update(len(some))
            yield from some

    with (
        Progress(total=len(images), desc=images.name, unit="image") as progress,
        closing(answered(loaded, images, batch_size, workers)) as found,
    ):
        return as_predictions(rows(found), measured, images, loaded)


def as_predictions(
    rows: Iterable[Mapping[str, Any]],
    measured: Sequence[Mapping[str, Any]] | pd.DataFrame,
    images: LabelledImages,
    loaded: Loaded,
) -> Predictions:
    """The answers to all images, from their rows in order and from what was measured of the batches, which is read when the rows end."""
    answers = answers_of(images, loaded)
    several = any(isinstance(label, tuple) for label in images.labels)
    columns = Columns(_columns(len(answers or loaded.classes), several))
    for row in rows:
        columns.add(row)
    names = readable_classes(images, loaded.classes)
    kept = columns.table(), pd.DataFrame(measured, columns=TIMES)
    return Predictions(images.name, names, *kept, answers, images.drawn_from, images.left_aside, images)


def _row(images: LabelledImages, one: Decoded, index_of: Sequence[int]) -> dict[str, Any]:
    """What is known of an image before the model has answered."""
    label = images.labels[one.number]
    return {
        NUMBER: one.number,
        "id": images.identity(one.number),
        **_right(label, index_of),
        "outcome": one.fault or ("unlabelled" if label is None else "scored"),
        "reason": one.reason,
        "pixels": one.checksum,
        "orientation": one.orientation,
        "cmyk": one.cmyk,
    }


def _columns(classes: int, several: bool) -> list[str]:
    best, also = range(1, min(BEST, classes) + 1), ["also"] * several
    answers = [*(f"class{k}" for k in best), *(f"score{k}" for k in best)]
    return ["label", *also, "outcome", "reason", "pixels", "orientation", "cmyk", *answers, "margin"]
