"""The questions of the compare notebook: each answers with a table or a figure, and with a check in the run's record."""

from collections.abc import Callable, Sequence

from ivit_helpers.compare import figures, pairs
from ivit_helpers.compare.speed import THRESHOLD
from ivit_helpers.measure.samples import interval_in_words
from ivit_helpers.record.parameters import CompareParameters
from ivit_helpers.record.record import CompareRecord, ModelRecord
from ivit_helpers.record.rows import ComparedRun, CompareRow
from ivit_helpers.record.run import Run
from ivit_helpers.report.figure import Figure
from ivit_helpers.report.table import NOTHING, Table, number
from ivit_helpers.runs import NamedRun, read_run

CompareRun = Run[CompareRecord]
Runs = Sequence[NamedRun]
NAMED = 3  # of several things that got worse


def check_inputs(asked: CompareParameters) -> None:
    """Raise InputError where one of the runs cannot be read."""
    for given in asked.runs:
        read_run(given)


def begin(run: CompareRun, given: Sequence[str]) -> Runs:
    """Read the runs and put them into the record, with what each says must be known before its figures are believed."""
    found = [read_run(one) for one in given]
    run.note(runs=[_summary(one) for one in found])
    run.note(
        caveats=list(
            dict.fromkeys(caveat for one in found for record in one.records.values() for caveat in record.caveats)
        )
    )
    run.check("every run was read", True, f"{len(found)} runs with {sum(len(one.records) for one in found)} records")
    return found


def _summary(one: NamedRun) -> ComparedRun:
    first, records = one.first, one.records
    return ComparedRun(
        given=one.given,
        records={name: record.id for name, record in records.items()},
        statuses={name: record.status for name, record in records.items()},
        headlines={name: record.headline for name, record in records.items()},
        started=first.started,
        model=first.model_name,
        device=first.device_name,
        dtype=first.model.dtype if first.model else str(first.parameters.get("dtype", "")),
    )


def differences(run: CompareRun, runs: Runs) -> Table:
    """What is not the same in all runs: machine, versions, model, parameters."""
    found = pairs.differences(runs)
    run.note(differences=found)
    lines = [{"what": "begun", **_by_run([one.started for one in run.record.runs])}]
    lines += [{"what": one.name, **_by_run(one.values)} for one in found]
    return Table(lines, "What is not the same in all runs")


def _by_run(values: Sequence[str | None]) -> dict[str, str]:
    return {f"run {place}": NOTHING if value is None else value for place, value in enumerate(values, 1)}


def _compare(run: CompareRun, kind: str, rows: Sequence[CompareRow], check: str) -> list[CompareRow]:
    """Keep the rows of one kind in place of earlier ones, and check that none is worse."""
    run.note(rows=[*(row for row in run.record.rows if row.kind != kind), *rows])
    worse = [row for row in rows if row.outcome == "worse"]
    judged = [row for row in rows if row.outcome != "not judged"]
    some = "; ".join(map(in_words, worse[:NAMED])) + (f"; and {len(worse) - NAMED} more" if len(worse) > NAMED else "")
    unjudged = [row for row in rows if row.outcome == "not judged"]
    detail = (
        f"{len(worse)} of {len(judged)}: {some}"
        if worse
        else f"none of {len(judged)}"
        if judged
        else "none is in two runs"
    )
    if unjudged:
        detail += f"; {len(unjudged)} could not be judged ({unjudged[0].name}: {unjudged[0].detail})"
    run.check(check, not worse if judged else None, detail)
    return list(rows)


def _of_pairs(
    runs: Runs, question: Callable[[int, ModelRecord, ModelRecord], Sequence[CompareRow]]
) -> list[CompareRow]:
    first, *others = runs
    return [
        row
        for place, later in enumerate(others, 1)
        for pair in pairs.shared(first, later)
        for row in question(place, *pair)
    ]


def endings(run: CompareRun, runs: Runs) -> Table:
    """How every notebook ended in the first run and in the others."""
    first, *others = runs
    found = [
        pairs.ending(place, record, later.records[name])
        for place, later in enumerate(others, 1)
        for name, record in first.records.items()
        if name in later.records
    ]
    _compare(run, "ending", found, "no notebook fails that did not")
    lines = [
        {
            "run": str(place),
            "named as": one.given,
            "notebook": name,
            "ended": one.statuses[name],
            "key figure": one.headlines[name],
        }
        for place, one in enumerate(run.record.runs, 1)
        for name in one.statuses
    ]
    return Table(lines, "The runs; the others are compared with run 1")


def speed_figure(run: CompareRun, runs: Runs) -> Figure:
    """How many times as fast as in the first run each configuration is."""
    return figures.speed_changes(_compare(run, "speed", _of_pairs(runs, pairs.speeds), "nothing got slower"))


def speed_table(record: CompareRecord) -> Table:
    """The numbers behind the figure."""
    rows = [row for row in record.rows if row.kind == "speed"]
    lines = [
        {
            "configuration": figures.label(row),
            "run": str(row.run + 1),
            "first, images/s": number(row.first),
            "later, images/s": number(row.later),
            "times as fast": number(row.change, 3),
            "95 % interval": NOTHING if row.low is None else f"{row.low:.3f} to {row.high:.3f}",
            "outcome": row.outcome,
            "why": row.detail,
        }
        for row in rows
    ]
    caption = f"Better or worse: the interval does not hold 1, and the slower one takes over {THRESHOLD:.0%} longer"
    return Table(lines or [{"speed": "no configuration was measured in two runs"}], caption)


def answers(run: CompareRun, runs: Runs) -> Table:
    """Top-1 of the runs over the same images."""
    first, *others = runs
    found = [row for place, later in enumerate(others, 1) for row in pairs.answers(place, first, later)]
    rows = _compare(run, "answers", found, "the answers are as right")
    lines = [
        {
            "accuracy": row.name,
            "run": str(row.run + 1),
            "first": _percent(row.first),
            "later": _percent(row.later),
            "difference, points": NOTHING if row.change is None else f"{100 * row.change:+.2f}",
            "95 % interval": NOTHING
            if row.low is None or row.high is None
            else f"{100 * row.low:+.2f} to {100 * row.high:+.2f}",
            "outcome": row.outcome,
            "why": row.detail,
        }
        for row in rows
    ]
    caption = (
        "The interval is of two independent samples; where the images were compared one by one, McNemar's test decides"
    )
    return Table(lines or [{"accuracy": "no image set was evaluated in two runs"}], caption)


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2%}"


def errors(run: CompareRun, runs: Runs) -> Table:
    """The errors of the implementations against the float32 or float64 reference."""
    rows = _compare(run, "error", _of_pairs(runs, pairs.errors), "no error grew")
    lines = [
        {
            "implementation": figures.label(row),
            "run": str(row.run + 1),
            "first": f"{row.first:.2e}",
            "later": f"{row.later:.2e}",
            "outcome": row.outcome,
            "why": row.detail,
        }
        for row in rows
    ]
    return Table(
        lines or [{"errors": "no implementation was compared with the reference in two runs"}],
        "Relative error of the last hidden state",
    )


def unmatched(run: CompareRun, runs: Runs) -> Table:
    """What was measured in one run only."""
    first, *others = runs
    found = [one for place, later in enumerate(others, 1) for one in pairs.unmatched(place, first, later)]
    run.note(unmatched=found)
    lines = [
        {"measured": one.name, "only in run": str(1 if one.where == "first" else one.run + 1), "why": one.why or ""}
        for one in found
    ]
    return Table(lines or [{"in one run only": "nothing"}], "Compared with nothing")


def history(record: CompareRecord) -> Figure | Table:
    """The speed over three or more runs."""
    if len(record.runs) < 3:
        return Table([{"history": "two runs were given; three or more are drawn one after another"}])
    return figures.history(record.rows, [one.started[:10] for one in record.runs])


def judge(run: CompareRun) -> None:
    """Check that the question could be answered: that a figure could be compared, and a speed where two runs have speeds."""
    found = [row for row in run.record.rows if row.kind != "ending"]
    judged, speeds = (
        [row for row in found if row.outcome != "not judged"],
        [row for row in found if row.kind == "speed"],
    )
    detail = f"{len(judged)} figures of {len(found)} that are in two runs"
    if speeds and not any(row in judged for row in speeds):
        run.check("the runs can be compared", None, f"none of {len(speeds)} speeds: {speeds[0].detail}", deciding=True)
    else:
        some = bool(judged) or None
        reason = found[0].detail if found else "no figure is in two runs"
        run.check(
            "the runs can be compared",
            some,
            detail if some else f"no figure of one run can be compared: {reason}",
            deciding=True,
        )


def in_words(row: CompareRow) -> str:
    """What happened to one thing, with its interval."""
    name = figures.label(row) + (f" in run {row.run + 1}" if row.run > 1 else "")
    if row.kind == "speed" and row.change is not None:
        return f"{name}: {row.change:.2f} times as fast ({interval_in_words(row.low, row.high)})"
    if row.kind == "answers" and row.change is not None:
        return f"{name}: {100 * row.change:+.2f} points ({row.detail})"
    if row.kind == "error":
        return f"{name}: {row.first:.1e} became {row.later:.1e}"
    return f"{name}: {row.detail}"


def headline(record: CompareRecord) -> str:
    """What got worse and what got better, in words."""
    judged = [row for row in record.rows if row.outcome != "not judged" and row.kind != "ending"]
    worse, better = ([row for row in record.rows if row.outcome == outcome] for outcome in ("worse", "better"))
    if not judged and not worse:
        return "Nothing could be compared"
    named = f", {in_words(better[0])}" if better and not worse else ""
    return f"Of {len(judged)} figures that are in two runs {len(worse)} got worse and {len(better)} better{named}"
