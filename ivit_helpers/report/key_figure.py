"""The key figures of a record, each with its interval or with what it is to be compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

from ivit_helpers.record.record import AccuracyRecord, AnyRecord, BenchmarkRecord, ExploreRecord, SmokeRecord
from ivit_helpers.record.rows import AccuracyRow, BenchmarkRow, SmokeRow
from ivit_helpers.report.table import readable
from ivit_helpers.report.ticks import said


@dataclass(frozen=True)
class KeyFigure:
    """One number that a reader looks for first. `detail` is its interval, or what it is of."""

    name: str
    value: str
    unit: str
    detail: str


def key_figures(record: AnyRecord) -> list[KeyFigure]:
    """Those of any record; empty where nothing was measured."""
    if isinstance(record, SmokeRecord):
        return _of_smoke(record.rows[0]) if record.rows else []
    if isinstance(record, BenchmarkRecord):
        row = record.best
        return [*_of_benchmark(row), *_of_cards(record)] if row else []
    if isinstance(record, AccuracyRecord):
        return _of_accuracy(record) if record.rows else []
    if isinstance(record, ExploreRecord):
        return _of_explore(record)
    return [
        KeyFigure(outcome, str(count), "", f"of {len(record.rows)} comparisons")
        for outcome in ("worse", "better", "no difference seen")
        if (count := sum(row.outcome == outcome for row in record.rows))
    ]


def _interval(low: float | None, high: float | None) -> str:
    return "no interval" if low is None or high is None else f"95 %: {said(low)} to {said(high)}"


def _speed(row: SmokeRow | BenchmarkRow) -> list[KeyFigure]:
    if row.images_per_s is None or row.latency_ms is None:
        return []
    latency = row.latency_ms
    middle, name = (latency.mean, "mean latency") if latency.p50 is None else (latency.p50, "median latency")
    tail = f"90th percentile {said(latency.p90)}" if latency.p90 is not None else f"of {latency.n} calls"
    return [
        KeyFigure(
            "throughput", said(row.images_per_s), "images/s", _interval(row.images_per_s_low, row.images_per_s_high)
        ),
        KeyFigure(f"{name}, batch {row.batch_size}", said(middle), "ms", tail),
    ]


def _error(value: float | None, beside: Sequence[float | None] | None = None) -> list[KeyFigure]:
    if value is None:
        return []
    other = beside[-1] if beside else None
    return [
        KeyFigure(
            "relative error",
            said(value),
            "",
            "of the last hidden state" if other is None else f"transformers: {said(other)}",
        )
    ]


def _memory(size: int | None) -> list[KeyFigure]:
    value, unit = readable("bytes", size).split(" ") if size else ("", "")
    return [KeyFigure("peak memory", value, unit, "while it ran")] if size else []


def _of_smoke(row: SmokeRow) -> list[KeyFigure]:
    first = (
        []
        if row.first_call_s is None
        else [KeyFigure("first call", said(row.first_call_s), "s", "loads kernels, may compile")]
    )
    return [
        *_speed(row),
        *_error(row.relative_error, row.layer_errors_transformers),
        *first,
        *_memory(row.peak_memory_bytes),
    ]


def _of_benchmark(row: BenchmarkRow) -> list[KeyFigure]:
    found = _speed(row)
    if row.share_of_bound is not None and row.bound_images_per_s:
        found.append(
            KeyFigure(
                "share of the limit",
                f"{100 * row.share_of_bound:.1f}",
                "%",
                f"limit: {said(row.bound_images_per_s)} images/s",
            )
        )
    if row.ratio:
        within = f"95 %: {said(row.ratio.low)} to {said(row.ratio.high)}"
        found.append(KeyFigure(f"as fast as {row.ratio.baseline}", said(row.ratio.median), "times", within))
    return [*found, *_error(row.relative_error), *_memory(row.peak_memory_bytes)]


def _of_cards(record: BenchmarkRecord) -> list[KeyFigure]:
    found = record.cards
    if found is None:
        return []
    count, share = len(found.cards), found.scaling_efficiency.mean
    return [
        KeyFigure(
            f"{count} cards at once",
            said(found.images_per_s.mean),
            "images/s",
            f"{share:.1%} of {count} times the first alone",
        )
    ]


def _of_accuracy(record: AccuracyRecord) -> list[KeyFigure]:
    row = record.rows[0]
    found = [_top(row, 1), _top(row, 5)] if claimed(record) else []
    found.append(KeyFigure("scored", f"{row.scored:,}", "images", f"of {row.images:,} in the set"))
    speed = (
        [KeyFigure("whole evaluation", said(row.images / row.whole_s), "images/s", f"{said(row.whole_s)} s")]
        if row.whole_s
        else []
    )
    return found + speed


def _top(row: AccuracyRow, k: int) -> KeyFigure:
    share, low, high = (100 * value for value in (row.best(1) if k == 1 else row.best(5)))
    return KeyFigure(f"top-{k}", f"{share:.2f}", "%", f"95 %: {low:.2f} to {high:.2f}")


def claimed(record: AccuracyRecord) -> bool:
    """Whether the fractions mean something: images with labels were scored by a trained head."""
    return bool(record.rows) and record.rows[0].top1 is not None and bool(record.model and record.model.head_is_trained)


def _of_explore(record: ExploreRecord) -> list[KeyFigure]:
    found = []
    last = record.rows[-1] if record.rows else None
    if last and last.difference is not None:
        beside = f"; transformers: {said(last.transformers)}" if last.transformers is not None else ""
        found.append(
            KeyFigure(f"from {record.other}", said(last.difference), "", f"relative, after block {last.block}{beside}")
        )
    first = record.answers[0] if record.answers else None
    if first and first.score is not None and record.model and record.model.head_is_trained:
        found.append(KeyFigure("first answer", first.name, "", f"score {100 * first.score:.1f} %"))
    nearest = record.neighbours[0] if record.neighbours else None
    if nearest and nearest.label is not None and nearest.similarity is not None:
        same = sum(one.label == nearest.label for one in record.neighbours)
        detail = f"{nearest.label}, of the nearest (cosine {nearest.similarity:.3f})"
        found.append(KeyFigure("neighbours of one class", f"{same} of {len(record.neighbours)}", "", detail))
    return found
