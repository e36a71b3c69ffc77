"""The questions of the accuracy notebook: each answers with a table or pictures, and with checks in the run's record."""

from typing import Any

from ivit_helpers import accuracy_figures, alignment, drawing, environment, evaluation, flips, published, tables
from ivit_helpers.checkpoint import Loaded
from ivit_helpers.errors import InputError
from ivit_helpers.evaluation import Predictions
from ivit_helpers.flips import Comparison
from ivit_helpers.head import missing_head
from ivit_helpers.images import LabelledImages
from ivit_helpers.label_rules import RULES
from ivit_helpers.pictures import Gallery
from ivit_helpers.published import PublishedAccuracy
from ivit_helpers.record import Run

LEAST_P = 0.01  # two runs that differ by chance alone fail the comparison once in a hundred times
NOTHING_CLAIMED = "pipeline only, no accuracy is claimed"
SHOWN = 20
SURE = 0.999


def begin(run: Run, loaded: Loaded, images: LabelledImages) -> tables.Facts:
    """Record the model and say in the verdict what limits the result. Raises InputError for a published set without a trained head."""
    if images.name in RULES and not loaded.head_is_trained and not loaded.checkpoint.is_random:
        raise missing_head(images.name)
    described = loaded.described()
    run.note(model=described, caveats=environment.caveats(loaded.device, described))
    if not loaded.head_is_trained:
        run.caveat(f"The classification head is random: {NOTHING_CLAIMED}.")
    if images.name in RULES and loaded.head_is_trained and described["head_is_the_published_one"] != "yes":
        run.caveat("The head is not the published one, by its SHA-256.")
    side, native = loaded.checkpoint.transform.crop_size, loaded.network.config.image_size
    if side != native:
        run.caveat(f"The processor makes images of {side} px, and the network was made for {native} px.")
    if not images.classes:
        run.caveat(f"The images are synthetic and have no labels: {NOTHING_CLAIMED}.")
    return tables.facts(
        {
            "model": described["name"],
            "classes of the model": described["classes"],
            "head": described["head"],
            **{name: described[name] for name in ("head_file", "head_sha256", "sha256") if name in described},
            "image set": title(images.name),
            "images": f"{len(images):,} drawn from {images.drawn_from:,}" if images.drawn_from else len(images),
            "classes that may be answered": len(images.answers or images.classes),
            "dtype": described["dtype"],
        }
    )


def title(image_set: str) -> str:
    """What a reader calls a set."""
    return RULES[image_set].title if image_set in RULES else image_set


def keep(run: Run, predictions: Predictions, loaded: Loaded, bad_limit: int = 0) -> dict[str, Any]:
    """Keep the predictions and the record's row, and make the checks. Returns the row.

    bad_limit: how many images may be unreadable, missing or non-finite.
    """
    row = evaluation.accuracy(predictions)
    batches = predictions.batches
    times = {"batch_seconds": batches["seconds"].tolist(), "waited_s": batches["waited"].sum(), "whole_s": batches["whole"].sum()}
    run.note(rows=[row | times])
    run.table("predictions", predictions.table.assign(set=predictions.set_name))
    outcomes = sum(row[outcome] for outcome in evaluation.OUTCOMES)
    run.check("every image accounted for", outcomes == row["images"], f"{outcomes} outcomes for {row['images']} images")
    _check_lost(run, predictions, bad_limit)
    _check_alignment(run, predictions, loaded)
    _check_accuracy(run, row, loaded)
    return row


def _check_lost(run: Run, predictions: Predictions, bad_limit: int) -> None:
    left_out = evaluation.not_scored(predictions)
    lost = left_out[left_out["outcome"].isin(evaluation.LOST)]
    listed = "; ".join(f"{item.path} ({item.outcome}: {item.reason})" for item in lost.head(5).itertuples())
    allowed = f", up to {bad_limit} are accepted" if bad_limit else ""
    detail = f"{len(lost)} unreadable, missing or non-finite{allowed}{': ' + listed if listed else ''}"
    run.check("no image was lost", len(lost) <= bad_limit, detail)


def left_out(run: Run, predictions: Predictions) -> tables.Table:
    """The images that were not scored, with path and reason: the first here, all of them in accuracy_not_scored.csv."""
    found = run.table("not_scored", evaluation.not_scored(predictions))
    if found.empty:
        return tables.Table([{"not scored": "none"}])
    rows = [{"image": str(item.path), "outcome": str(item.outcome), "reason": str(item.reason)} for item in found.head(SHOWN).itertuples()]
    return tables.Table(rows, f"Not scored: {min(SHOWN, len(found))} of {len(found):,}, all of them in accuracy_not_scored.csv")


def _check_alignment(run: Run, predictions: Predictions, loaded: Loaded) -> None:
    name = "labels and classes line up"
    found = alignment.check(predictions) if loaded.head_is_trained else None
    if found:
        run.check(name, not found.near_chance, str(found))
    elif loaded.head_is_trained:
        run.check(name, None, f"{len(predictions.scored)} scored images are too few to tell, it takes {alignment.LEAST_IMAGES}")


def reference(row: dict[str, Any], loaded: Loaded) -> PublishedAccuracy | None:
    """What was published for this network on this set; None where nothing was, or where the head is no trained one."""
    return published.accuracy(loaded.network.config, row["set"]) if claims_accuracy(row, loaded) else None


def _check_accuracy(run: Run, row: dict[str, Any], loaded: Loaded) -> None:
    least, expected = published.least_top1(loaded.checkpoint.name, row["set"]), reference(row, loaded)
    if not claims_accuracy(row, loaded):
        run.check("accuracy", None, NOTHING_CLAIMED)
    elif expected:
        run.check("accuracy", *_judged(row, expected))
    elif least is None:
        run.check("accuracy", None, f"top-1 {row['top1']:.2%}; there is no published figure for this model on {row['set']}")
    else:
        run.check(
            "accuracy", row["top1"] >= least, f"top-1 {row['top1']:.2%}, at least {least:.0%} is expected of this model on {row['set']}"
        )


def _judged(row: dict[str, Any], expected: PublishedAccuracy) -> tuple[bool | None, str]:
    """Whether the published figures were reached, and why.

    On the whole set both must be within the tolerance. On images drawn at random from it a published figure outside the 99.9 %
    interval is a failure, and one inside proves nothing. Other images, a few classes for example, may be easier or harder.
    """
    both = {"top-1": (row["top1"], expected.top1), "top-5": (row["top5"], expected.top5)}
    said = ", ".join(f"{name} {here:.3%} ({100 * (here - there):+.3f} points)" for name, (here, there) in both.items())
    needed = f"within {100 * expected.tolerance:g} points of the published figures"
    if (row["drawn_from"], row["images"], row["scored"]) == (None, expected.images, expected.labelled):
        return all(abs(here - there) <= expected.tolerance + 1e-9 for here, there in both.values()), f"{said}; {needed} is demanded"
    only = f"{said}; these are {row['scored']:,} scored images, and only all {expected.labelled:,} of the set could be held to be {needed}"
    if row["drawn_from"] != expected.images:
        return None, only
    limits = {best: evaluation.wilson(row[f"{best}_hits"], row["scored"], SURE) for best in ("top1", "top5")}
    outside = [best for best, (low, high) in limits.items() if not low <= getattr(expected, best) <= high]
    return (False, f"{only}; the published figure lies outside the 99.9 % interval of this draw") if outside else (None, only)


def claims_accuracy(row: dict[str, Any], loaded: Loaded) -> bool:
    """Whether labels and a trained head were there at all."""
    return bool(row["scored"]) and loaded.head_is_trained


def overview(predictions: Predictions, row: dict[str, Any], expected: PublishedAccuracy | None = None) -> object:
    """Top-1 and top-5 with intervals beside the published figures, and the accuracy of each class."""
    if not row["scored"]:
        return tables.Table([{"accuracy": NOTHING_CLAIMED}])
    return drawing.SideBySide(accuracy_figures.intervals(row, expected), accuracy_figures.class_accuracy(evaluation.per_class(predictions)))


def class_figures(predictions: Predictions) -> object:
    """Which classes were taken for which."""
    if predictions.scored.empty:
        return tables.Table([{"confusion": NOTHING_CLAIMED}])
    return accuracy_figures.confusion(evaluation.confusion(predictions))


def mistakes(predictions: Predictions, images: LabelledImages, loaded: Loaded, count: int = 12) -> Gallery:
    """The wrong answers it was surest of, as the network saw them."""
    wrong = evaluation.confident_mistakes(predictions, count)
    crops = [loaded.checkpoint.transform.crop(images.image(int(number))) for number in wrong.index]
    captions = [f"{item.truth}, said {item.said} ({item.score1:.0%})" for item in wrong.itertuples()]
    return Gallery(crops, captions, size=112)


def against(run: Run, predictions: Predictions, images: LabelledImages, loaded: Loaded, reference: str) -> object:
    """Hold the answers against another run's: agreement, flips both ways, and the images that flipped."""
    if not reference:
        return tables.Table([{"another run": "none was given: reference=FOLDER compares with the answers of another accuracy run"}])
    try:
        other = flips.read(flips.find(reference))
        compared = flips.compare(predictions, other)
    except InputError as error:  # the conclusion must still be drawn
        run.check("comparable with the reference", False, str(error))
        return tables.Table([{"another run": str(error)}])
    _check_flips(run, compared)
    described = {"reference": str(other), **_described(compared)}
    run.extend_row(against=described)
    return drawing.Together(
        tables.facts(described, "Against another run"),
        accuracy_figures.margin_changes(compared.answered, compared.near_tie),
        _flipped(compared, predictions, images, loaded),
    )


def _check_flips(run: Run, compared: Comparison) -> None:
    once, (lost, won) = compared.answered_once, compared.turned
    listed = "; ".join(once["id"].head(5))
    run.check("same images answered", once.empty, f"{len(once)} answered in one of the two runs only{': ' + listed if listed else ''}")
    turned = f"{lost} right there and wrong here, {won} the other way, McNemar's exact p {compared.p:.3g}, at least {LEAST_P} is expected"
    run.check("flips both ways alike", compared.p >= LEAST_P if compared.labelled else None, turned if compared.labelled else "no labels")
    run.check(
        "every flip a near tie",
        compared.unexplained.empty,
        f"{len(compared.unexplained)} of {len(compared.flipped)} flips at a margin above {compared.near_tie:.3g} logits, which rounding "
        f"between these two runs does not explain",
    )


def _described(compared: Comparison) -> dict[str, Any]:
    answered, flipped, (lost, won) = len(compared.answered), len(compared.flipped), compared.turned
    low, high = evaluation.wilson(answered - flipped, answered) if answered else (0.0, 1.0)
    same = f" ({1 - flipped / answered:.2%}, 95 % interval {low:.2%} to {high:.2%})" if answered else ""
    return {
        "same top-1": f"{answered - flipped:,} of {answered:,}{same}",
        "right there, wrong here": lost,
        "wrong there, right here": won,
        "McNemar's exact p": f"{compared.p:.3g}",
        "largest score difference": f"{compared.largest_score_difference:.2e}",
        "median change of the margin": f"{compared.answered['change'].median():.2e} logits",
        "same pixels, bit for bit": f"{compared.decoded_alike:,} of {answered:,}",
    }


def _flipped(compared: Comparison, predictions: Predictions, images: LabelledImages, loaded: Loaded, count: int = 12) -> Gallery:
    """The flipped images, the one that either run was surest of first, with both answers and their margins."""
    shown = compared.flipped.head(count)
    crops = [loaded.checkpoint.transform.crop(images.image(int(number))) for number in shown.index]
    names = predictions.classes
    captions = [
        f"{item.id}: {names[int(item.class1_there)]} there (by {item.margin_there:.3g} logits), "
        f"{names[int(item.class1)]} here (by {item.margin:.3g})"
        for item in shown.itertuples()
    ]
    return Gallery(crops, captions, size=112)


def pace(predictions: Predictions) -> object:
    """How long the device computed, how long it waited for images, and the time of each batch."""
    batches = predictions.batches
    if batches.empty:
        return tables.Table([{"batches": "none, no image could be decoded"}])
    waited, computed, whole = (batches[name].sum() for name in ("waited", "seconds", "whole"))
    took = {
        "the device waited for images": f"{waited:.2f} s, {waited / whole:.1%} of the whole",
        "it computed": f"{computed:.2f} s, {computed / whole:.1%} of the whole",
        "whole": f"{whole:.2f} s for {batches['images'].sum():,} images",
    }
    return drawing.Together(tables.facts(took), accuracy_figures.batch_times(batches))


def headline(row: dict[str, Any], loaded: Loaded) -> str:
    """The key figure of an accuracy run in words."""
    if not claims_accuracy(row, loaded):
        return f"{row['images']} images of {title(row['set'])} went through the pipeline"
    return (
        f"Top-1 {row['top1']:.2%} (95 % interval {row['top1_low']:.2%} to {row['top1_high']:.2%}), top-5 {row['top5']:.2%}, "
        f"on {row['scored']} of {row['images']} images of {title(row['set'])}"
    )
