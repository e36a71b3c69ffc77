"""Predictions -> accuracy, with intervals; every input accounted for.

Every image ends in exactly one of the outcomes below. None is replaced by another, none is left out of the totals.
"""

import bisect
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ivit_helpers.errors import InputError
from ivit_helpers.images import AUTO, Decoded, Label, LabelledImages, batches, readable_names, synsets
from ivit_helpers.measure import timed
from ivit_helpers.weights import Loaded

BEST = 5
TIMES = ["images", "seconds", "waited", "whole"]


@dataclass(frozen=True)
class Predictions:
    """What a model said of every image of a set."""

    set_name: str
    classes: tuple[str, ...]
    table: pd.DataFrame
    """One row an image: id (the same on every machine), path, label, outcome, reason, pixels (checksum of what the network was
    given), class1..class5, score1..score5 (softmax), margin (logit of class1 less that of class2), the last three of the classes
    that may be answered; where images have several right classes, `also` holds those after the first, as text"""
    batches: pd.DataFrame
    """One row a batch that had images, in order: images, seconds (forward pass only, synchronised), waited (seconds in which its
    images were not ready and the device had nothing to do), whole (seconds from the end of the batch before to its own)"""
    answers: tuple[int, ...] = ()
    """The classes that could be answered, as indices; empty for all"""
    drawn_from: int | None = None
    """How many images the set has, where these are some drawn at random"""

    @property
    def scored(self) -> pd.DataFrame:
        return self.table[self.table["outcome"] == "scored"]


def class_indices(images: LabelledImages, classes: Sequence[str]) -> list[int]:
    """For each class of the set, its index in the model's classes: by name where the model knows the names, else by order.

    Synset ids have a place among the 1000 of ImageNet, whichever of them the set holds.
    Raises InputError when the set has more classes than the model.
    """
    known = {name: index for index, name in enumerate(classes)}
    if set(images.classes) <= set(known):
        return [known[name] for name in images.classes]
    if len(images.classes) > len(classes):
        raise InputError(
            f"{images.name} has {len(images.classes)} classes and the model tells {len(classes)} apart: "
            "give the model's own images, or a model folder with the head of these classes."
        )
    if len(classes) == len(synsets()) and set(images.classes) <= set(synsets()):
        return [bisect.bisect_left(synsets(), name) for name in images.classes]
    return list(range(len(images.classes)))


def class_names(images: LabelledImages, classes: Sequence[str]) -> tuple[str, ...]:
    """What a reader calls the model's classes: ImageNet's synsets by id and, where it is known, by name."""
    if not set(images.classes) <= set(synsets()) or len(classes) != len(synsets()):
        return tuple(classes)
    readable = dict(zip(synsets(), readable_names(), strict=True))
    return tuple(readable[name] for name in (classes if set(classes) == set(synsets()) else synsets()))


def best_answers(logits: Tensor, answers: Sequence[int] = ()) -> list[dict[str, Any]]:
    """class1..class5, score1..score5 and margin of each row of logits (B, classes), of `answers` alone where there are any.

    Empty where a logit is not finite.
    """
    allowed = torch.tensor(answers or range(logits.shape[-1]))
    count = min(BEST, len(allowed))
    within = logits.float()[:, allowed]
    places = within.topk(count).indices  # of the logits: far from the best one many scores are zero alike
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


def predict(loaded: Loaded, images: LabelledImages, batch_size: int, workers: int = AUTO) -> Predictions:
    """Classify every image of a set, in order; `workers` as for decoding.batches."""
    index_of = class_indices(images, loaded.classes)
    answers = tuple(index_of[number] for number in images.answers or ())
    rows: list[dict[str, Any]] = []
    times: list[dict[str, Any]] = []
    with (
        tqdm(total=len(images), desc=images.name, unit="image", leave=False, delay=1) as progress,
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
            progress.update(len(batch.images))
    several = any(isinstance(label, tuple) for label in images.labels)
    table = pd.DataFrame(rows).reindex(columns=_columns(len(answers or loaded.classes), several))
    counts = {name: "Int64" for name in table.columns if name == "label" or name.startswith("class")}
    names = class_names(images, loaded.classes)
    return Predictions(images.name, names, table.astype(counts), pd.DataFrame(times, columns=TIMES), answers, images.drawn_from)


def _row(images: LabelledImages, one: Decoded, index_of: Sequence[int]) -> dict[str, Any]:
    """What is known of an image before the model has seen it."""
    label = images.labels[one.number]
    return {
        "id": images.identity(one.number),
        "path": str(images.paths[one.number]),
        **_right(label, index_of),
        "outcome": one.fault or ("unlabelled" if label is None else "scored"),
        "reason": one.reason,
        "pixels": one.checksum,
    }


def _columns(classes: int, several: bool) -> list[str]:
    best, also = range(1, min(BEST, classes) + 1), ["also"] * several
    answers = [*(f"class{k}" for k in best), *(f"score{k}" for k in best)]
    return ["id", "path", "label", *also, "outcome", "reason", "pixels", *answers, "margin"]
