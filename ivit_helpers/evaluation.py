"""Predictions -> accuracy, with intervals; every input accounted for.

Every image ends in exactly one of the outcomes below. None is replaced by another, none is left out of the totals.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from scipy.stats import binomtest
from torch import Tensor
from tqdm import tqdm

from ivit_helpers import decoding
from ivit_helpers.checkpoint import Loaded
from ivit_helpers.decoding import Decoded
from ivit_helpers.errors import InputError
from ivit_helpers.images import LabelledImages
from ivit_helpers.timing import timed

OUTCOMES = ("scored", "unreadable", "missing", "unlabelled", "nonfinite")
BEST = 5


@dataclass(frozen=True)
class Predictions:
    """What a model said of every image of a set."""

    set_name: str
    classes: tuple[str, ...]
    table: pd.DataFrame
    """One row an image: id (the same on every machine), path, label, outcome, reason, pixels (checksum of what the network was
    given), class1..class5, score1..score5 (softmax), margin (logit of class1 less that of class2)"""
    batches: pd.DataFrame
    """One row a batch, in order: images, seconds (forward pass only, synchronised)"""

    @property
    def scored(self) -> pd.DataFrame:
        return self.table[self.table["outcome"] == "scored"]


def class_indices(images: LabelledImages, classes: Sequence[str]) -> list[int]:
    """For each class of the set, its index in the model's classes: by name where the model knows the names, else by order.

    Raises InputError when the set has more classes than the model.
    """
    if set(images.classes) <= set(classes):
        return [classes.index(name) for name in images.classes]
    if len(images.classes) > len(classes):
        raise InputError(
            f"{images.name} has {len(images.classes)} classes and the model tells {len(classes)} apart: "
            "give the model's own images, or a model folder with the head of these classes."
        )
    return list(range(len(images.classes)))


def _best_of(logits: Tensor) -> list[dict[str, Any]]:
    """class1..class5, score1..score5 and margin of each row of logits (B, classes); empty where a logit is not finite."""
    count = min(BEST, logits.shape[-1])
    scores, found = logits.float().softmax(-1).topk(count)
    first = logits.float().gather(-1, found[:, :2])
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


def _classify(pixels: Tensor, loaded: Loaded) -> tuple[Tensor, float]:
    """Logits (B, classes) on the CPU, and the seconds of the forward pass."""
    on_device, out = pixels.to(loaded.device.torch_device), []
    classifier = loaded.classifier
    with loaded.device.inference():
        seconds = timed(lambda: out.append(classifier(on_device)), loaded.device)
    return out[0].float().cpu(), seconds


def predict(loaded: Loaded, images: LabelledImages, batch_size: int, workers: int = decoding.AUTO) -> Predictions:
    """Classify every image of a set, in order; `workers` as for decoding.batches."""
    index_of = class_indices(images, loaded.classes)
    rows: list[dict[str, Any]] = []
    times: list[dict[str, Any]] = []
    with (
        tqdm(total=len(images), desc=images.name, unit="image", leave=False, delay=1) as progress,
        closing(decoding.batches(images, loaded.checkpoint.transform, batch_size, workers)) as batches,
    ):
        for batch in batches:
            rows += [_row(images, one, index_of) for one in batch.images]
            if batch.numbers:
                logits, seconds = _classify(torch.from_numpy(batch.pixels), loaded)
                times.append({"images": len(batch.numbers), "seconds": seconds})
                for number, best in zip(batch.numbers, _best_of(logits), strict=True):
                    rows[number] |= best or {"outcome": "nonfinite", "reason": "a logit is not finite"}
            progress.update(len(batch.images))
    table = pd.DataFrame(rows).reindex(columns=_columns(len(loaded.classes)))
    counts = {name: "Int64" for name in table.columns if name == "label" or name.startswith("class")}
    return Predictions(images.name, loaded.classes, table.astype(counts), pd.DataFrame(times, columns=["images", "seconds"]))


def _row(images: LabelledImages, one: Decoded, index_of: Sequence[int]) -> dict[str, Any]:
    """What is known of an image before the model has seen it."""
    label = images.labels[one.number]
    return {
        "id": images.identity(one.number),
        "path": str(images.paths[one.number]),
        "label": None if label is None else index_of[label],
        "outcome": one.fault or ("unlabelled" if label is None else "scored"),
        "reason": one.reason,
        "pixels": one.checksum,
    }


def _columns(classes: int) -> list[str]:
    best = range(1, min(BEST, classes) + 1)
    answers = [*(f"class{k}" for k in best), *(f"score{k}" for k in best)]
    return ["id", "path", "label", "outcome", "reason", "pixels", *answers, "margin"]


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion."""
    interval = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def hits(scored: pd.DataFrame, best: int) -> pd.Series:
    """Whether the label is among the first `best` classes, for each scored image."""
    columns = [f"class{k}" for k in range(1, best + 1) if f"class{k}" in scored]
    found: pd.Series = scored[columns].eq(scored["label"], axis=0).any(axis=1)
    return found


def accuracy(predictions: Predictions) -> dict[str, Any]:
    """The record's row of a set: the counts of all outcomes, top-1 and top-5 as fractions of the scored, with 95 % intervals."""
    outcomes = predictions.table["outcome"].value_counts()
    scored = predictions.scored
    row: dict[str, Any] = {"set": predictions.set_name, "images": len(predictions.table)}
    row |= {outcome: int(outcomes.get(outcome, 0)) for outcome in OUTCOMES}
    for best in (1, 5):
        right = int(hits(scored, best).sum())
        low, high = wilson(right, len(scored)) if len(scored) else (None, None)
        share = right / len(scored) if len(scored) else None
        row |= {f"top{best}_hits": right, f"top{best}": share, f"top{best}_low": low, f"top{best}_high": high}
    return row


def per_class(predictions: Predictions) -> pd.DataFrame:
    """Images, hits and top-1 with its interval for every class that has a scored image."""
    scored = predictions.scored
    grouped = hits(scored, 1).groupby(scored["label"])
    frame = pd.DataFrame({"images": grouped.size(), "hits": grouped.sum().astype(int)})
    frame["top1"] = frame["hits"] / frame["images"]
    bounds = [wilson(int(row.hits), int(row.images)) for row in frame.itertuples()]
    frame["low"], frame["high"] = [low for low, _ in bounds], [high for _, high in bounds]
    frame.insert(0, "class", [predictions.classes[int(label)] for label in frame.index])
    return frame.reset_index(drop=True)


def confusion(predictions: Predictions) -> pd.DataFrame:
    """Counts, true classes as rows, predicted classes as columns; only classes that occur as either."""
    scored = predictions.scored
    present = sorted(set(scored["label"]) | set(scored["class1"]))
    table = pd.crosstab(scored["label"], scored["class1"]).reindex(index=present, columns=present, fill_value=0)
    names = [predictions.classes[int(index)] for index in present]
    return pd.DataFrame(table.to_numpy(), index=names, columns=names)


def confident_mistakes(predictions: Predictions, count: int) -> pd.DataFrame:
    """The wrong answers the model was surest of, surest first, with the names of both classes."""
    scored = predictions.scored
    wrong = scored[~hits(scored, 1)].nlargest(count, "score1")
    return wrong.assign(
        truth=[predictions.classes[int(label)] for label in wrong["label"]],
        said=[predictions.classes[int(label)] for label in wrong["class1"]],
    )


def not_scored(predictions: Predictions) -> pd.DataFrame:
    """Every image that did not count, with the reason; synthetic images are unlabelled on purpose and are not listed."""
    left_out = predictions.table[~predictions.table["outcome"].isin(["scored", "unlabelled"])]
    return left_out[["path", "outcome", "reason"]]
