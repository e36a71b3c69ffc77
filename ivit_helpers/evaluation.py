"""Predictions -> accuracy, with intervals; every input accounted for.

Every image ends in exactly one of the outcomes below. None is replaced by another, none is left out of the totals.
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from scipy.stats import binomtest
from torch import Tensor
from tqdm import tqdm

from ivit_helpers.checkpoint import Loaded
from ivit_helpers.errors import InputError
from ivit_helpers.images import Label, LabelledImages
from ivit_helpers.label_rules import readable_names, synsets
from ivit_helpers.timing import timed

OUTCOMES = ("scored", "unreadable", "missing", "unlabelled", "nonfinite")
BEST = 5


@dataclass(frozen=True)
class Predictions:
    """What a model said of every image of a set."""

    set_name: str
    classes: tuple[str, ...]
    table: pd.DataFrame
    """One row an image: path, label, outcome, reason, class1..class5, score1..score5 (softmax over the classes that may be answered);
    where images have several right classes, `also` holds those after the first, as text"""
    batches: pd.DataFrame
    """One row a batch, in order: images, seconds (forward pass only, synchronised)"""
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


def _decoded(images: LabelledImages, loaded: Loaded) -> Iterator[tuple[int, Tensor | None, str, str]]:
    """(number, pixel values or None, outcome, reason) of every image, in order."""
    for number, label in enumerate(images.labels):
        try:
            pixels = loaded.checkpoint.transform(images.image(number))
        except FileNotFoundError:
            yield number, None, "missing", "no such file"
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
            yield number, None, "unreadable", str(error).splitlines()[0]
        else:
            yield number, pixels, "scored" if label is not None else "unlabelled", ""


def _best_of(logits: Tensor, answers: Sequence[int] = ()) -> list[dict[str, Any]]:
    """class1..class5 and score1..score5 of each row of logits (B, classes), of the classes `answers` alone where there are any.

    Empty where a logit is not finite.
    """
    allowed = torch.tensor(answers or range(logits.shape[-1]))
    count = min(BEST, len(allowed))
    scores, places = logits.float()[:, allowed].softmax(-1).topk(count)
    found = allowed[places]
    finite = logits.isfinite().all(-1).tolist()
    return [
        {f"class{k + 1}": int(found[row, k]) for k in range(count)} | {f"score{k + 1}": float(scores[row, k]) for k in range(count)}
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


def predict(loaded: Loaded, images: LabelledImages, batch_size: int) -> Predictions:
    """Classify every image of a set, in order."""
    index_of = class_indices(images, loaded.classes)
    answers = tuple(index_of[number] for number in images.answers or ())
    rows: list[dict[str, Any]] = []
    batches: list[dict[str, Any]] = []
    waiting: list[tuple[int, Tensor]] = []

    def flush() -> None:
        if not waiting:
            return
        logits, seconds = _classify(torch.stack([pixels for _, pixels in waiting]), loaded)
        batches.append({"images": len(waiting), "seconds": seconds})
        for (number, _), best in zip(waiting, _best_of(logits, answers), strict=True):
            rows[number] |= best or {"outcome": "nonfinite", "reason": "a logit is not finite"}
        waiting.clear()

    progress = tqdm(_decoded(images, loaded), total=len(images), desc=images.name, unit="image", leave=False, delay=1)
    for number, pixels, outcome, reason in progress:
        right = _right(images.labels[number], index_of)
        rows.append({"path": str(images.paths[number]), **right, "outcome": outcome, "reason": reason})
        if pixels is not None:
            waiting.append((number, pixels))
        if len(waiting) == batch_size:
            flush()
    flush()
    several = any(isinstance(label, tuple) for label in images.labels)
    table = pd.DataFrame(rows).reindex(columns=_columns(len(answers or loaded.classes), several))
    counts = {name: "Int64" for name in table.columns if name == "label" or name.startswith("class")}
    return Predictions(
        images.name, class_names(images, loaded.classes), table.astype(counts),
        pd.DataFrame(batches, columns=["images", "seconds"]), answers, images.drawn_from,
    )  # fmt: skip


def _columns(classes: int, several: bool) -> list[str]:
    best, also = range(1, min(BEST, classes) + 1), ["also"] * several
    return ["path", "label", *also, "outcome", "reason", *(f"class{k}" for k in best), *(f"score{k}" for k in best)]


def wilson(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion."""
    interval = binomtest(hits, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def hits(scored: pd.DataFrame, best: int) -> pd.Series:
    """Whether a right class is among the first `best` classes, for each scored image."""
    columns = [f"class{k}" for k in range(1, best + 1) if f"class{k}" in scored]
    found: pd.Series = scored[columns].eq(scored["label"], axis=0).any(axis=1)
    if "also" in scored:
        others = scored["also"].fillna("").str.split().explode().dropna().astype(int)  # a row of its own for each further right class
        matches = (scored.loc[others.index, columns].to_numpy() == others.to_numpy()[:, None]).any(axis=1)
        found[others.index[matches]] = True
    return found


def accuracy(predictions: Predictions) -> dict[str, Any]:
    """The record's row of a set: the counts of all outcomes, top-1 and top-5 as fractions of the scored, with 95 % intervals."""
    outcomes = predictions.table["outcome"].value_counts()
    scored = predictions.scored
    row: dict[str, Any] = {"set": predictions.set_name, "images": len(predictions.table), "drawn_from": predictions.drawn_from}
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
    """Counts, true classes as rows, predicted classes as columns; only classes that occur as either.

    Of several right classes the predicted one is taken as the true one, else the first.
    """
    scored = predictions.scored
    truth = scored["label"].mask(hits(scored, 1), scored["class1"])
    present = sorted(set(truth) | set(scored["class1"]))
    table = pd.crosstab(truth, scored["class1"]).reindex(index=present, columns=present, fill_value=0)
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


LOST = ("unreadable", "missing", "nonfinite")
"""Outcomes that nobody wants; an unlabelled image is one that its set leaves out"""


def not_scored(predictions: Predictions) -> pd.DataFrame:
    """Every image that did not count, with the reason: those that were lost first, then those without a label.

    Where no image of the set has a label, as in synthetic ones, that is no reason to list them.
    """
    left_out = predictions.table[predictions.table["outcome"] != "scored"][["path", "outcome", "reason"]]
    if predictions.table["label"].isna().all():
        left_out = left_out[left_out["outcome"] != "unlabelled"]
    unlabelled = left_out["outcome"] == "unlabelled"
    left_out = left_out.assign(reason=left_out["reason"].mask(unlabelled, f"{predictions.set_name} gives it no label"))
    return left_out.loc[unlabelled.sort_values(kind="stable").index]
