"""The questions of the accuracy notebook: each answers with a table or pictures, and with checks in the run's record."""

from typing import Any

from ivit_helpers import drawing, environment, evaluation, figures, published, tables
from ivit_helpers.checkpoint import Loaded
from ivit_helpers.evaluation import Predictions
from ivit_helpers.images import LabelledImages
from ivit_helpers.pictures import Gallery
from ivit_helpers.record import Run

NOTHING_CLAIMED = "pipeline only, no accuracy is claimed"


def begin(run: Run, loaded: Loaded, images: LabelledImages) -> tables.Facts:
    """Record the model and say in the verdict what limits the result."""
    described = loaded.described()
    run.note(model=described, caveats=environment.caveats(loaded.device, described))
    if not loaded.head_is_trained:
        run.caveat(f"The classification head is random: {NOTHING_CLAIMED}.")
    if not images.classes:
        run.caveat(f"The images are synthetic and have no labels: {NOTHING_CLAIMED}.")
    return tables.facts(
        {
            "model": described["name"],
            "classes of the model": described["classes"],
            "head": "trained" if loaded.head_is_trained else "random",
            "image set": images.name,
            "images": len(images),
            "classes of the set": len(images.classes),
            "dtype": described["dtype"],
        }
    )


def keep(run: Run, predictions: Predictions, loaded: Loaded) -> dict[str, Any]:
    """Keep the predictions and the record's row, and make the checks. Returns the row."""
    row = evaluation.accuracy(predictions)
    run.note(rows=[row | {"batch_seconds": predictions.batches["seconds"].tolist()}])
    run.table("predictions", predictions.table)
    outcomes = sum(row[outcome] for outcome in evaluation.OUTCOMES)
    run.check("every image accounted for", outcomes == row["images"], f"{outcomes} outcomes for {row['images']} images")
    bad = evaluation.not_scored(predictions)
    listed = "; ".join(f"{item.path} ({item.outcome}: {item.reason})" for item in bad.head(5).itertuples())
    run.check("no image was lost", bad.empty, f"{len(bad)} unreadable, missing or non-finite{': ' + listed if listed else ''}")
    _check_accuracy(run, row, loaded)
    return row


def _check_accuracy(run: Run, row: dict[str, Any], loaded: Loaded) -> None:
    least = published.least_top1(loaded.checkpoint.name, row["set"])
    if not claims_accuracy(row, loaded):
        run.check("accuracy", None, NOTHING_CLAIMED)
    elif least is None:
        run.check("accuracy", None, f"top-1 {row['top1']:.2%}; there is no published figure for this model on {row['set']}")
    else:
        run.check(
            "accuracy", row["top1"] >= least, f"top-1 {row['top1']:.2%}, at least {least:.0%} is expected of this model on {row['set']}"
        )


def claims_accuracy(row: dict[str, Any], loaded: Loaded) -> bool:
    """Whether labels and a trained head were there at all."""
    return bool(row["scored"]) and loaded.head_is_trained


def overview(predictions: Predictions, row: dict[str, Any]) -> object:
    """Top-1 and top-5 with intervals, and the accuracy of each class."""
    if not row["scored"]:
        return tables.Table([{"accuracy": NOTHING_CLAIMED}])
    return drawing.SideBySide(figures.intervals(row), figures.class_accuracy(evaluation.per_class(predictions)))


def class_figures(predictions: Predictions) -> object:
    """Which classes were taken for which."""
    if predictions.scored.empty:
        return tables.Table([{"confusion": NOTHING_CLAIMED}])
    return figures.confusion(evaluation.confusion(predictions))


def mistakes(predictions: Predictions, images: LabelledImages, loaded: Loaded, count: int = 12) -> Gallery:
    """The wrong answers it was surest of, as the network saw them."""
    wrong = evaluation.confident_mistakes(predictions, count)
    crops = [loaded.checkpoint.transform.crop(images.image(int(number))) for number in wrong.index]
    captions = [f"{item.truth}, said {item.said} ({item.score1:.0%})" for item in wrong.itertuples()]
    return Gallery(crops, captions, size=112)


def headline(row: dict[str, Any], loaded: Loaded) -> str:
    """The key figure of an accuracy run in words."""
    if not claims_accuracy(row, loaded):
        return f"{row['images']} images of {row['set']} went through the pipeline"
    return (
        f"Top-1 {row['top1']:.2%} (95 % interval {row['top1_low']:.2%} to {row['top1_high']:.2%}), top-5 {row['top5']:.2%}, "
        f"on {row['scored']} of {row['images']} images of {row['set']}"
    )
