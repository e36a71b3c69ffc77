"""What a reader of a benchmark sees: figures and tables, drawn from the record alone where it holds what they need."""

from collections.abc import Sequence

from ivit_helpers.benchmark import figures
from ivit_helpers.benchmark.frontier import frontier_table, recommended
from ivit_helpers.benchmark.implementations import BASELINE
from ivit_helpers.benchmark.launches import launch_table
from ivit_helpers.measure.timing import timing_table
from ivit_helpers.model.published import published_speeds
from ivit_helpers.record.record import BenchmarkRecord
from ivit_helpers.record.rows import BenchmarkRow, Ratio, TimingRow
from ivit_helpers.report.figure import SideBySide, Together
from ivit_helpers.report.table import NOTHING, Table, number
from ivit_helpers.weights.loading import Loaded


def _in_words(ratio: Ratio | None) -> str:
    return NOTHING if ratio is None else f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def limit_figures(record: BenchmarkRecord, loaded: Loaded) -> Together:
    """How far every point is from what the device could do, how the same products alone compare, and who waits for whom."""
    speeds = published_speeds(loaded.network.config)
    return Together(
        figures.roofline(record, speeds), limit_table(record.rows, record.products), launch_table(record.rows)
    )


def limit_table(rows: Sequence[BenchmarkRow], products: Sequence[TimingRow]) -> Table:
    """Each configuration beside its bound, and beside the network's own products alone."""
    alone = {row.batch_size: row for row in products}
    lines = [
        {
            "batch": str(row.batch_size),
            "implementation": row.implementation,
            "images/s": number(row.images_per_s),
            "bound, images/s": number(row.bound_images_per_s),
            "of the bound": number(row.share_of_bound and 100 * row.share_of_bound, 1, " %"),
            "products alone, images/s": number(alone[row.batch_size].images_per_s if row.batch_size in alone else None),
            "times as fast as they": _in_words(row.products),
        }
        for row in rows
        if row.was_measured
    ]
    return Table(
        lines, "The bound: every weight is read once a pass, every product is computed, nothing else takes time"
    )


def which_batch(record: BenchmarkRecord) -> Together:
    """Which batch size to use, and the largest that fits."""
    return Together(recommended(record.rows), frontier_table(record.frontier))


def numbers(rows: Sequence[BenchmarkRow], loaded: Loaded) -> Together:
    """Every configuration, and what others published."""
    return Together(timing_table(rows), published_table(loaded))


def speed_figures(rows: Sequence[BenchmarkRow], loaded: Loaded) -> SideBySide:
    """Throughput, beside what is published for the same network, and every timed call."""
    return SideBySide(figures.throughput(rows, published_speeds(loaded.network.config)), figures.latency(rows))


def memory_and_ratio_figures(rows: Sequence[BenchmarkRow], loaded: Loaded) -> SideBySide:
    """Peak memory, and the speed relative to transformers where that was measured beside the others."""
    shown = [figures.memory(rows, loaded.device.total_memory(), loaded.device.memory_measured)]
    return SideBySide(*shown, *([figures.ratios(rows, BASELINE)] if any(row.ratio for row in rows) else []))


def published_table(loaded: Loaded) -> Table:
    """The published figures for exactly this network, with their sources."""
    lines = [
        {
            "published by others, not measured here": line["label"],
            "batch": size,
            "images/s": f"{speed:g}",
            "source": line["source"],
        }
        for line in published_speeds(loaded.network.config)
        for size, speed in line["images_per_s"].items()
    ]
    return Table(
        lines
        or [{"published figures": "none is known for this network; those for InternViT-6B-224px do not apply to it"}]
    )
