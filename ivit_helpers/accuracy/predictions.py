"""Images and a model -> predictions, one row for every image.

Every image has exactly one outcome. No image is replaced by another, and none is left out of the totals.
"""

import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ivit_helpers.accuracy.classes import class_indices, readable_classes
from ivit_helpers.accuracy.journal import NUMBER, Journal
from ivit_helpers.images import AUTO, RULES, Decoded, Label, LabelledImages, LeftAside, batches, printable
from ivit_helpers.measure import timed
from ivit_helpers.record import Progress
from ivit_helpers.weights import Loaded

BEST = 5
TIMES = ["images", "seconds", "waited", "whole"]


@dataclass(frozen=True)
class Predictions:
    """The model's answers to every image of a set."""

    set_name: str
    classes: tuple[str, ...]
    table: pd.DataFrame
    """One row an image: id (the same on every machine), path, label, outcome, reason, pixels (checksum of the network's input),
    orientation (EXIF, 1 to 8), cmyk, class1..class5, score1..score5 (softmax), margin (logit of class1 minus that of class2). The
    scores and the margin are over the classes that may be answered. Where images have several right classes, `also` holds those
    after the first, as text."""
    batches: pd.DataFrame
    """One row a batch that had images, in order: images, seconds (forward pass only, synchronised), waited (seconds in which its
    images were not ready and the device had nothing to do), whole (seconds from the end of the previous batch to its own end)"""
    answers: tuple[int, ...] = ()
    """The classes that could be answered, as indices; empty for all"""
    drawn_from: int | None = None
    """How many images the set has, where these are some drawn at random"""
    left_aside: Sequence[LeftAside] = ()
    """What is in the set and is not one of its images"""

    @property
    def scored(self) -> pd.DataFrame:
        return self.table[self.table["outcome"] == "scored"]


def answerable(images: LabelledImages, index_of: Sequence[int], classes: int) -> tuple[int, ...]:
    """The classes that may be answered, as the model's indices; empty for all `classes` of the model.

    A published set is scored among its own classes only, even where the model has more.
    """
    allowed = images.answers if images.answers is not None else range(len(images.classes)) if images.name in RULES else ()
    found = tuple(index_of[number] for number in allowed)
    return found if len(found) < classes else ()


def best_answers(logits: Tensor, answers: Sequence[int] = ()) -> list[dict[str, Any]]:
    """class1..class5, score1..score5 and margin of each row of logits (B, classes), of `answers` alone where there are any.

    Empty where a logit is not finite.
    """
    allowed = torch.tensor(answers or range(logits.shape[-1]))
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


def _classify(pixels: Tensor, loaded: Loaded) -> tuple[Tensor, float]:
    """Logits (B, classes) on the CPU, and the seconds of the forward pass."""
    on_device, out = pixels.to(loaded.device.torch_device), []
    classifier = loaded.classifier
    with loaded.device.inference():
        seconds = timed(lambda: out.append(classifier(on_device)), loaded.device)
    return out[0].float().cpu(), seconds


def predict(loaded: Loaded, images: LabelledImages, batch_size: int, workers: int = AUTO, journal: Journal | None = None) -> Predictions:
    """Classify every image of a set, in order; `workers` as for `batches`. Raises InputError as `class_indices` does.

    journal: takes the rows as they are made, and is closed at the end.
    """
    index_of = class_indices(images, loaded.classes)
    answers = answerable(images, index_of, len(loaded.classes))
    rows: list[dict[str, Any]] = []
    times: list[dict[str, Any]] = []
    with (
        journal or nullcontext(),
        Progress(total=len(images), desc=images.name, unit="image") as progress,
        closing(batches(images, loaded.checkpoint.transform, batch_size, workers)) as decoded,
    ):
        began = time.perf_counter()
        for batch in decoded:
            waited = time.perf_counter() - began
            rows += [_row(images, one, index_of) for one in batch.images]
            if batch.numbers:
                logits, seconds = _classify(torch.from_numpy(batch.pixels), loaded)
                for number, best in zip(batch.numbers, best_answers(logits, answers), strict=True):
                    rows[number] |= best or {"outcome": "nonfinite", "reason": "a logit is not finite"}
                ended = time.perf_counter()
                times.append({"images": len(batch.numbers), "seconds": seconds, "waited": waited, "whole": ended - began})
                began = ended
            if journal:
                journal.append({NUMBER: one.number, **rows[one.number]} for one in batch.images)
            progress.update(len(batch.images))
    several = any(isinstance(label, tuple) for label in images.labels)
    table = pd.DataFrame(rows).reindex(columns=_columns(len(answers or loaded.classes), several))
    counts = {name: "Int64" for name in table.columns if name == "label" or name.startswith("class")}
    names = readable_classes(images, loaded.classes)
    kept = table.astype(counts), pd.DataFrame(times, columns=TIMES)
    return Predictions(images.name, names, *kept, answers, images.drawn_from, images.left_aside)


def _row(images: LabelledImages, one: Decoded, index_of: Sequence[int]) -> dict[str, Any]:
    """What is known of an image before the model has answered."""
    label = images.labels[one.number]
    return {
        "id": images.identity(one.number),
        "path": printable(str(images.paths[one.number])),
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
    return ["id", "path", "label", *also, "outcome", "reason", "pixels", "orientation", "cmyk", *answers, "margin"]
