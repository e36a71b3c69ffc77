"""Does another device give the same answers? This run's answers against another run's, with the checks that follow."""

from typing import Any

from ivit_helpers.accuracy import figures
from ivit_helpers.accuracy.flips import Comparison, compare
from ivit_helpers.accuracy.predictions import Predictions
from ivit_helpers.accuracy.reference import read_reference
from ivit_helpers.accuracy.statistics import wilson
from ivit_helpers.errors import InputError
from ivit_helpers.images.labelled_images import LabelledImages
from ivit_helpers.record.record import AccuracyRecord
from ivit_helpers.record.run import Run
from ivit_helpers.report.figure import Together
from ivit_helpers.report.gallery import Gallery
from ivit_helpers.report.table import Table, facts
from ivit_helpers.weights.loading import Loaded

LEAST_P = 0.01  # of two runs that differ by chance alone, one pair in a hundred fails


def against(
    run: Run[AccuracyRecord], predictions: Predictions, images: LabelledImages, loaded: Loaded, reference: str
) -> object:
    """Compare the answers with another run's: agreement, flips in both directions, and the images that flipped."""
    if not reference:
        return Table(
            [{"another run": "none was given: reference=FOLDER compares with the answers of another accuracy run"}]
        )
    try:
        other = read_reference(reference, run.record.id)
        compared = compare(predictions, other)
    except InputError as error:  # the conclusion must still be drawn
        run.check("comparable with the reference", False, str(error))
        return Table([{"another run": str(error)}])
    _check_flips(run, compared)
    described = {"reference": str(other), **_described(compared)}
    run.extend_row(against=described)
    return Together(
        facts(described, "Against another run"),
        figures.margin_changes(compared.answered, compared.near_tie),
        _flipped(compared, predictions, images, loaded),
    )


def _check_flips(run: Run[AccuracyRecord], compared: Comparison) -> None:
    once, (lost, won) = compared.answered_once, compared.turned
    listed = "; ".join(once["id"].head(5))
    run.check(
        "same images answered",
        once.empty,
        f"{len(once)} answered in one of the two runs only{': ' + listed if listed else ''}",
    )
    turned = (
        f"{lost} right there and wrong here, {won} wrong there and right here, McNemar's exact p {compared.p:.3g}, "
        f"at least {LEAST_P} is expected"
    )
    run.check(
        "flips both ways alike",
        compared.p >= LEAST_P if compared.labelled else None,
        turned if compared.labelled else "no labels",
    )
    run.check(
        "every flip a near tie",
        compared.unexplained.empty,
        f"{len(compared.unexplained)} of {len(compared.flipped)} flips at a margin above {compared.near_tie:.3g} logits, which rounding "
        f"between these two runs does not explain",
    )


def _described(compared: Comparison) -> dict[str, Any]:
    answered, flipped, (lost, won) = len(compared.answered), len(compared.flipped), compared.turned
    low, high = wilson(answered - flipped, answered) if answered else (0.0, 1.0)
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


def _flipped(
    compared: Comparison, predictions: Predictions, images: LabelledImages, loaded: Loaded, count: int = 12
) -> Gallery:
    """The flipped images with both answers and their margins, the largest margin first."""
    shown = compared.flipped.head(count)
    names = predictions.classes
    captions = [
        f"{item.id}: {names[int(item.class1_there)]} there (by {item.margin_there:.3g} logits), "
        f"{names[int(item.class1)]} here (by {item.margin:.3g})"
        for item in shown.itertuples()
    ]
    return figures.pictures(images, loaded.checkpoint.transform, shown.index, captions)
