"""The questions of the accuracy notebook: each answers with a table or pictures, and with checks in the run's record."""

from typing import Literal

import pandas as pd

from ivit_helpers.accuracy import figures
from ivit_helpers.accuracy.alignment import check_alignment
from ivit_helpers.accuracy.classes import check_classes, class_caveats
from ivit_helpers.accuracy.judging import TOPS, judge_accuracy, judge_least
from ivit_helpers.accuracy.predictions import Predictions, answers_of
from ivit_helpers.accuracy.reference import read_reference
from ivit_helpers.accuracy.statistics import (
    LOST,
    confident_mistakes,
    confusion,
    not_scored,
    per_class,
    score,
    seconds_of,
)
from ivit_helpers.device.several import agreed, device_of
from ivit_helpers.distributed import place as this_place
from ivit_helpers.errors import InputError
from ivit_helpers.images.aside import listed
from ivit_helpers.images.decoding import check_workers
from ivit_helpers.images.imagenet import RULES
from ivit_helpers.images.labelled_images import LabelledImages
from ivit_helpers.images.layouts import image_set
from ivit_helpers.model.published import PublishedAccuracy, least_top1, published_accuracy
from ivit_helpers.record.parameters import AccuracyParameters
from ivit_helpers.record.record import AccuracyRecord
from ivit_helpers.record.rows import OUTCOMES, AccuracyRow
from ivit_helpers.record.run import Run
from ivit_helpers.report.figure import SideBySide, Together
from ivit_helpers.report.gallery import Gallery
from ivit_helpers.report.table import NOTHING, Facts, Table, facts
from ivit_helpers.weights.head import missing_head
from ivit_helpers.weights.loading import Loaded
from ivit_helpers.weights.sources import find, is_hub_id

NOTHING_CLAIMED = "pipeline only, no accuracy is claimed"
SHOWN = 20
AccuracyRun = Run[AccuracyRecord]


def check_inputs(asked: AccuracyParameters) -> int:
    """The number of images of a run, before anything is loaded. Reads no weights and no pixels.

    Raises InputError where images, labels or a reference are not there, where a published set has no trained head, and where a class
    of the images is not a class of the model.
    """
    images = image_set(asked)
    check_workers(asked.workers)
    check_devices(asked)
    check_head(asked)
    check_classes(asked, images)
    if asked.reference:
        read_reference(asked.reference)
    return len(images)


def check_devices(asked: AccuracyParameters) -> None:
    """Raise InputError for parameters that contradict each other, or a torchrun that has started the processes already."""
    place = this_place()
    if asked.devices:
        agreed(asked.devices, asked.device)
        if place:
            raise InputError(
                f"devices={asked.devices!r} starts processes, and torchrun has started {place.processes}: leave devices out."
            )
    elif place:
        device_of(asked.device, place.local_rank)
    elif asked.scaling:
        raise InputError("scaling=true compares several cards with one: give devices, too.")


def check_head(asked: AccuracyParameters) -> None:
    """Raise InputError for a published set without a trained head: it would compute for hours, and no accuracy could be reported."""
    if asked.image_set == "folder" or asked.head:
        return
    found = None if is_hub_id(asked.model) else find(asked.model)  # hubs keep the head apart from the weights
    if found is None or (found.head is None and not found.is_random):
        raise missing_head(asked.image_set)


def begin(run: AccuracyRun, loaded: Loaded, images: LabelledImages) -> Facts:
    """Record the model, and add to the verdict what limits the result. Raises InputError for a published set without a trained head."""
    if images.name in RULES and not loaded.head_is_trained and not loaded.checkpoint.is_random:
        raise missing_head(images.name)
    answers = answers_of(images, loaded) or loaded.classes
    described = loaded.facts()
    asked = AccuracyParameters(**run.record.parameters)
    run.note(model=described, caveats=[*loaded.caveats(), *class_caveats(asked, images, loaded.classes)])
    if not loaded.head_is_trained:
        run.caveat(f"The classification head is random: {NOTHING_CLAIMED}.")
    if images.name in RULES and loaded.head_is_trained and described.head_is_the_published_one != "yes":
        run.caveat("The head is not the published one, by its SHA-256.")
    side, native = loaded.checkpoint.transform.crop_size, loaded.network.config.image_size
    if side != native:
        run.caveat(f"The processor makes images of {side} px, and the network was made for {native} px.")
    if not images.classes:
        run.caveat(f"The images have no labels: {NOTHING_CLAIMED}.")
    return facts(
        {
            "model": described.name,
            "classes of the model": described.classes,
            "head": described.head,
            **described.model_dump(include={"head_file", "head_sha256", "sha256"}, exclude_none=True),
            "image set": title(images.name),
            "images": f"{len(images):,} drawn from {images.drawn_from:,}" if images.drawn_from else len(images),
            "left aside": "; ".join([f"{len(images.left_aside):,}", *listed(images.left_aside)]),
            "classes of the images": len(set(images.classes)),
            "classes that may be answered": len(answers),
            "dtype": described.dtype,
        }
    )


def title(image_set: str) -> str:
    """The name of a set for a reader."""
    return RULES[image_set].title if image_set in RULES else image_set


def keep(run: AccuracyRun, predictions: Predictions, loaded: Loaded, bad_limit: int = 0) -> AccuracyRow:
    """Keep the predictions and the record's row, and make the checks. Returns the row.

    bad_limit: how many images may be unreadable, missing or non-finite.
    """
    row = score(predictions)
    run.note(rows=[row])
    run.long_table("predictions", (piece.assign(set=predictions.set_name) for piece in predictions.pieces()))
    _check_left_aside(run, predictions, row)
    outcomes = sum(getattr(row, outcome) for outcome in OUTCOMES)
    run.check("every image accounted for", outcomes == row.images, f"{outcomes} outcomes for {row.images} images")
    _check_lost(run, predictions, bad_limit)
    _check_alignment(run, predictions, loaded)
    _check_accuracy(run, row, loaded)
    return row


def _check_left_aside(run: AccuracyRun, predictions: Predictions, row: AccuracyRow) -> None:
    """Whether the images are all that the set has: what could be an image and was not read is a fault, a README is not."""
    if predictions.left_aside:
        run.table("left_aside", pd.DataFrame([vars(one) for one in predictions.left_aside]))
    words = "; ".join(row.left_aside_first or [])
    detail = f"{row.left_aside_possible_images:,} of the {row.left_aside:,} files left aside could be images{': ' + words if words else ''}"
    run.check("nothing in the set was left out", not row.left_aside_possible_images, detail)


def _check_lost(run: AccuracyRun, predictions: Predictions, bad_limit: int) -> None:
    left_out = not_scored(predictions)
    lost = left_out[left_out["outcome"].isin(LOST)]
    listed = "; ".join(f"{item.path} ({item.outcome}: {item.reason})" for item in lost.head(5).itertuples())
    allowed = f", up to {bad_limit} are accepted" if bad_limit else ""
    detail = f"{len(lost)} unreadable, missing or non-finite{allowed}{': ' + listed if listed else ''}"
    run.check("no image was lost", len(lost) <= bad_limit, detail)


def left_out(run: AccuracyRun, predictions: Predictions) -> Table:
    """The images that were not scored, with path and reason: the first here, all of them in accuracy_not_scored.csv."""
    found = run.table("not_scored", not_scored(predictions))
    if found.empty:
        return Table([{"not scored": "none"}])
    rows = [
        {"image": str(item.path), "outcome": str(item.outcome), "reason": str(item.reason)}
        for item in found.head(SHOWN).itertuples()
    ]
    return Table(
        rows, f"Not scored: {min(SHOWN, len(found))} of {len(found):,}, all of them in accuracy_not_scored.csv"
    )


def _check_alignment(run: AccuracyRun, predictions: Predictions, loaded: Loaded) -> None:
    name = "labels and classes line up"
    found = check_alignment(predictions) if loaded.head_is_trained else None
    if found:
        run.check(name, found.lines_up, str(found))


def published(row: AccuracyRow, loaded: Loaded) -> PublishedAccuracy | None:
    """What was published for this network on this set; None where nothing was, or where the head is not a trained one."""
    return published_accuracy(loaded.network.config, row.set) if claims_accuracy(row, loaded) else None


def _check_accuracy(run: AccuracyRun, row: AccuracyRow, loaded: Loaded) -> None:
    least, expected = least_top1(loaded.checkpoint.name, row.set), published(row, loaded)
    judged: tuple[bool | None, str] = None, NOTHING_CLAIMED
    if not row.scored and row.unlabelled < row.images:
        judged = False, f"none of the {row.images:,} images was scored"
    elif expected:
        judged = judge_accuracy(row, expected)
    elif claims_accuracy(row, loaded):
        unknown = None, f"top-1 {row.top1:.2%}; there is no published figure for this model on {row.set}"
        judged = unknown if least is None else judge_least(row, least)
    run.check("accuracy", *judged, deciding=True)


def claims_accuracy(row: AccuracyRow, loaded: Loaded) -> bool:
    """Whether there were labels and a trained head."""
    return bool(row.scored) and loaded.head_is_trained


def overview(predictions: Predictions, row: AccuracyRow, expected: PublishedAccuracy | None = None) -> object:
    """Top-1 and top-5 with intervals beside the published figures, and the accuracy of each class."""
    if not row.scored:
        return Table([{"accuracy": NOTHING_CLAIMED}])
    return SideBySide(figures.intervals(row, expected), figures.class_accuracy(per_class(predictions)))


def class_figures(predictions: Predictions) -> object:
    """Which classes were confused with which."""
    if predictions.scored.empty:
        return Table([{"confusion": NOTHING_CLAIMED}])
    return figures.confusion(confusion(predictions))


def mistakes(predictions: Predictions, images: LabelledImages, loaded: Loaded, count: int = 12) -> Gallery:
    """The wrong answers with the highest scores, as the network saw the images."""
    wrong = confident_mistakes(predictions, count)
    captions = [f"{item.truth}, answered {item.said} ({item.score1:.0%})" for item in wrong.itertuples()]
    return figures.pictures(images, loaded.checkpoint.transform, wrong.index, captions)


def pace(predictions: Predictions) -> object:
    """How long the device computed, how long it waited for images, and how long each batch took."""
    batches = predictions.batches
    if batches.empty:
        return Table([{"batches": "none, no image could be decoded"}])
    waited, computed, whole = (batches[name].sum() for name in ("waited", "seconds", "whole"))
    who, of = ("the device", "the whole") if batches["process"].nunique() < 2 else ("the cards together", "their time")
    took = {
        f"{who} waited for images": f"{waited:.2f} s, {waited / whole:.1%} of {of}",
        f"{who} computed": f"{computed:.2f} s, {computed / whole:.1%} of {of}",
        "whole evaluation": f"{seconds_of(batches):.2f} s for {batches['images'].sum():,} images",
    }
    return Together(facts(took), figures.batch_times(batches))


def headline(row: AccuracyRow, loaded: Loaded) -> str:
    """The key figure of an accuracy run in words."""
    if not claims_accuracy(row, loaded):
        return f"{row.images} images of {title(row.set)} went through the pipeline"
    top1, low, high = row.best(1)
    return (
        f"Top-1 {top1:.2%} (95 % interval {low:.2%} to {high:.2%}), top-5 {row.best(5)[0]:.2%}, "
        f"on {row.scored} of {row.images} images of {title(row.set)}"
    )


def accounting_table(row: AccuracyRow) -> Table:
    """The outcomes of a set's images, which add up to the images, and how many images other readers decode differently."""
    applied = "applied" if row.set in RULES and RULES[row.set].upright else "not applied"
    differ = [(row.with_orientation, f"with an EXIF orientation ({applied} to this set)"), (row.cmyk, "in CMYK")]
    listed = " and ".join(f"{count:,} {what}" for count, what in differ if count)
    caption = f"Every image has exactly one outcome{'. Image readers differ on ' + listed if listed else ''}"
    if row.left_aside:
        caption += f". Left aside, because they are not images of the set: {row.left_aside:,}, all of them in accuracy_left_aside.csv"
    return Table([{name: f"{getattr(row, name):,}" for name in ("images", *OUTCOMES)}], caption)


def accuracy_table(row: AccuracyRow, expected: PublishedAccuracy | None = None) -> Table:
    """Top-1 and top-5 with intervals, over both denominators, beside what was published."""
    caption = (
        f"Published: {expected.source}; not measured here. Its difference has the 95 % interval of this run"
        if expected
        else ""
    )
    return Table([_shown(row, k, expected) for k in TOPS] if row.scored else [], caption)


def _shown(row: AccuracyRow, k: Literal[1, 5], expected: PublishedAccuracy | None) -> dict[str, str]:
    share, low, high = row.best(k)
    there = expected.best(k) if expected else None
    points = [NOTHING if there is None else f"{100 * (value - there):+.2f}" for value in (share, low, high)]
    return {
        "measure": f"top-{k}",
        "of the scored": f"{share:.2%}",
        "95 % interval": f"{low:.2%} to {high:.2%}",
        "right": f"{row.hits(k):,} of {row.scored:,}",
        "of all images": f"{row.hits(k) / row.images:.2%}",
        "published": NOTHING if there is None else f"{there:.3%}",
        "difference, points": NOTHING if there is None else f"{points[0]} ({points[1]} to {points[2]})",
    }
