"""Two runs' answers and errors: is the later run as right as the first one?"""

import math

from ivit_helpers.accuracy import flips, other_run, reference
from ivit_helpers.device.device import dtype_name
from ivit_helpers.errors import InputError
from ivit_helpers.model.kernels import ALLOWED_MULTIPLE, FLOOR
from ivit_helpers.record.record import AccuracyRecord, ExploreRecord, ModelRecord
from ivit_helpers.record.rows import AccuracyRow, CompareRow
from ivit_helpers.runs import NamedRun

MULTIPLE = {dtype_name(dtype): multiple for dtype, multiple in ALLOWED_MULTIPLE.items()}
"""How many times as large rounding alone may make an error, by dtype"""
POINTS = "of the scored images"


def compare_answers(run: int, first: NamedRun, later: NamedRun) -> list[CompareRow]:
    """Top-1 of two accuracy runs over the same set: image by image where both tables are there, else with the interval of the difference.

    Empty where one of them scored nothing, or where the sets differ.
    """
    before, after = first.records["accuracy"], later.records["accuracy"]
    assert isinstance(before, AccuracyRecord)
    assert isinstance(after, AccuracyRecord)
    rows = [row for record in (before, after) for row in record.rows[:1]]
    if len(rows) < 2 or (rows[0].set, rows[0].images) != (rows[1].set, rows[1].images):
        return []
    there, here = rows
    change, low, high = _difference(there, here)
    row = CompareRow(
        run=run, kind="answers", notebook="accuracy", name=f"top-1 on {here.set}", unit=POINTS, first=there.top1, later=here.top1,
        change=change, low=low, high=high, outcome="not judged", detail="",
    )  # fmt: skip
    tables = [reference.predictions_of(record, one.folder) for record, one in ((after, later), (before, first))]
    if tables[0] and tables[1]:
        try:
            _judge_flips(row, flips.compare_runs(tables[0], tables[1]))
        except InputError as error:
            row.detail = str(error)
    else:
        _judge_difference(row)
        row.detail += "; the answers of both runs are not there, so images were not compared one by one"
    if not _means_something(before, after):
        row.outcome = "not judged"
        row.detail = f"no labels or a random head, so no accuracy is claimed; {row.detail}"
    _judge_lost(row, there, here)
    return [row]


def _means_something(*records: AccuracyRecord) -> bool:
    return all(record.rows[0].scored and record.model and record.model.head_is_trained for record in records)


def _difference(there: AccuracyRow, here: AccuracyRow) -> tuple[float | None, float | None, float | None]:
    """Later minus first top-1 with its 95 % interval, by Newcombe's hybrid of two Wilson intervals (method 10 of his 1998 paper)."""
    if not (there.scored and here.scored):
        return None, None, None
    (one, one_low, one_high), (two, two_low, two_high) = there.best(1), here.best(1)
    change = two - one
    return (
        change,
        change - math.hypot(two - two_low, one_high - one),
        change + math.hypot(two_high - two, one - one_low),
    )


def _judge_difference(row: CompareRow) -> None:
    if row.low is None or row.high is None or row.change is None:
        row.detail = "one of the runs scored no image"
    elif row.low <= 0 <= row.high:
        row.outcome, row.detail = "no difference seen", "the interval of the difference holds 0"
    else:
        row.outcome, row.detail = (
            ("worse" if row.change < 0 else "better"),
            "the interval of the difference does not hold 0",
        )


def _judge_flips(row: CompareRow, compared: flips.Comparison) -> None:
    answered, flipped, (lost, won) = len(compared.answered), len(compared.flipped), compared.turned
    row.p = compared.p
    row.detail = (
        f"{flipped:,} of {answered:,} images have another first class; {lost:,} were right and are wrong, {won:,} were wrong and are right "
        f"(McNemar's exact p {compared.p:.3g}); {len(compared.unexplained):,} flips are at a margin that rounding does not explain"
    )
    once = len(compared.answered_once)
    if once:
        row.detail += f"; {once:,} were answered in one run only"
    significant = compared.p < other_run.LEAST_P
    row.outcome = ("worse" if lost > won else "better") if significant else "no difference seen"


def _judge_lost(row: CompareRow, there: AccuracyRow, here: AccuracyRow) -> None:
    """Fewer scored images of the same set are worse, whatever the answers to the others are."""
    if here.scored < there.scored:
        row.outcome = "worse"
        row.detail = f"{there.scored - here.scored:,} of {there.scored:,} images are not scored any more; {row.detail}"


def relative_errors(record: ModelRecord) -> dict[str, tuple[float, str]]:
    """(Error against the reference, dtype) of each implementation of a smoke or a benchmark run."""
    if isinstance(record, AccuracyRecord | ExploreRecord):
        return {}
    found: dict[str, tuple[float, str]] = {}
    for row in record.rows:
        if row.relative_error is not None:
            found.setdefault(f"{row.implementation} in {row.dtype}", (row.relative_error, row.dtype))
    return found


def compare_errors(run: int, first: ModelRecord, later: ModelRecord) -> list[CompareRow]:
    """The errors of the implementations that both runs compared with the reference."""
    before, after = relative_errors(first), relative_errors(later)
    return [_error_row(run, later.notebook, name, before[name][0], *after[name]) for name in before if name in after]


def _error_row(run: int, notebook: str, name: str, before: float, after: float, dtype: str) -> CompareRow:
    multiple = MULTIPLE.get(dtype, min(MULTIPLE.values()))
    grew, shrank = after > max(multiple * before, FLOOR), before > max(multiple * after, FLOOR)
    words = "grew by more than" if grew else "shrank by more than" if shrank else "changed by no more than"
    return CompareRow(
        run=run, kind="error", notebook=notebook, name=name, unit="relative error", first=before, later=after,
        change=after / before if before else None,
        outcome="worse" if grew else "better" if shrank else "no difference seen",
        detail=f"{words} rounding explains, which is up to {multiple:g} times",
    )  # fmt: skip
