"""Predictions -> accuracy, with intervals, and the images that were not scored."""

from typing import Any

import pandas as pd
from scipy.stats import binomtest

from ivit_helpers.accuracy.predictions import Predictions
from ivit_helpers.images.aside import listed
from ivit_helpers.record.rows import OUTCOMES, AccuracyRow

LOST = ("unreadable", "missing", "nonfinite")
"""Outcomes that are faults; an unlabelled image is not, because its set leaves it out on purpose"""


def wilson(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion."""
    interval = binomtest(hits, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def hits(scored: pd.DataFrame, best: int) -> pd.Series:
    """Whether a right class is among the first `best` classes, for each scored image."""
    columns = [f"class{k}" for k in range(1, best + 1) if f"class{k}" in scored]
    found: pd.Series = scored[columns].eq(scored["label"], axis=0).any(axis=1)
    if "also" in scored:
        others = (
            scored["also"].fillna("").str.split().explode().dropna().astype(int)
        )  # a row of its own for each further right class
        matches = (scored.loc[others.index, columns].to_numpy() == others.to_numpy()[:, None]).any(axis=1)
        found[others.index[matches]] = True
    return found


def score(predictions: Predictions) -> AccuracyRow:
    """The record's row of a set: the counts of all outcomes, top-1 and top-5 as fractions of the scored, with 95 % intervals."""
    table, scored, batches = predictions.table, predictions.scored, predictions.batches
    outcomes = table["outcome"].value_counts()
    found: dict[str, Any] = {outcome: int(outcomes.get(outcome, 0)) for outcome in OUTCOMES}
    for best in (1, 5):
        right = int(hits(scored, best).sum())
        low, high = wilson(right, len(scored)) if len(scored) else (None, None)
        share = right / len(scored) if len(scored) else None
        found |= {f"top{best}_hits": right, f"top{best}": share, f"top{best}_low": low, f"top{best}_high": high}
    return AccuracyRow(
        set=predictions.set_name,
        images=len(table),
        drawn_from=predictions.drawn_from,
        left_aside=len(predictions.left_aside),
        left_aside_possible_images=sum(one.image for one in predictions.left_aside),
        left_aside_first=listed(predictions.left_aside),
        with_orientation=int((table["orientation"] != 1).sum()),
        cmyk=int(table["cmyk"].sum()),
        batch_seconds=batches["seconds"].round(6).tolist(),
        waited_s=batches["waited"].sum(),
        whole_s=seconds_of(batches),
        **found,
    )


def seconds_of(batches: pd.DataFrame) -> float:
    """Seconds by the clock on the wall in which the runs that answered a set were at work."""
    began = batches["ended"] - batches["whole"]
    runs = batches.assign(began=began).groupby("run", dropna=False)
    return float((runs["ended"].max() - runs["began"].min()).sum())


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
    """The wrong answers with the highest scores, the highest first, with the names of both classes."""
    scored = predictions.scored
    wrong = scored[~hits(scored, 1)].nlargest(count, "score1")
    return wrong.assign(
        truth=[predictions.classes[int(label)] for label in wrong["label"]],
        said=[predictions.classes[int(label)] for label in wrong["class1"]],
    )


def not_scored(predictions: Predictions) -> pd.DataFrame:
    """Every image that was not scored, with the reason: first the lost images, then those without a label.

    Synthetic images are not listed for having no label, because none of them has one.
    """
    left_out = predictions.named(predictions.table[predictions.table["outcome"] != "scored"])[
        ["path", "outcome", "reason"]
    ]
    if predictions.set_name == "synthetic":
        left_out = left_out[left_out["outcome"] != "unlabelled"]
    unlabelled = left_out["outcome"] == "unlabelled"
    left_out = left_out.assign(reason=left_out["reason"].mask(unlabelled, f"{predictions.set_name} gives it no label"))
    return left_out.loc[unlabelled.sort_values(kind="stable").index]
