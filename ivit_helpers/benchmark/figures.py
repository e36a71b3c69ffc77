"""Figures from records: each small enough for a phone, drawn for light and for dark, with its text alternative.

A figure is a function of record rows alone, so it can be drawn again without the accelerator.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ivit_helpers.record.record import BenchmarkRecord
from ivit_helpers.record.rows import BenchmarkRow, CardsAtOnce
from ivit_helpers.report.figure import Figure, draw
from ivit_helpers.report.theme import Theme

MARKERS, LINES = "osD^v", ("-", "--", "-.", ":")


def _by_implementation(rows: Sequence[BenchmarkRow]) -> dict[str, list[BenchmarkRow]]:
    """The rows that were measured, by implementation, in the order of the rows."""
    measured = [row for row in rows if row.was_measured]
    return {
        name: [row for row in measured if row.implementation == name]
        for name in dict.fromkeys(row.implementation for row in measured)
    }


def _sizes(rows: Sequence[BenchmarkRow]) -> list[int]:
    return sorted({row.batch_size for row in rows})


def _batch_axis(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("batch size (images)")


def _lines(
    axes: Axes, theme: Theme, rows: Sequence[BenchmarkRow], value: Callable[[BenchmarkRow], float | None]
) -> None:
    for number, (name, own) in enumerate(_by_implementation(rows).items()):
        axes.plot(
            [row.batch_size for row in own],
            [np.nan if value(row) is None else value(row) for row in own],  # type: ignore[arg-type]
            LINES[number % len(LINES)],
            marker=MARKERS[number % len(MARKERS)],
            color=theme.series[number % len(theme.series)],
            label=name,
        )


def _said(rows: Sequence[BenchmarkRow], value: Callable[[BenchmarkRow], float | None], unit: str) -> str:
    """The numbers of a line plot as words, for its text alternative."""
    parts = []
    for name, own in _by_implementation(rows).items():
        numbers = ", ".join(f"{value(row):.4g} at batch {row.batch_size}" for row in own if value(row) is not None)
        parts.append(f"{name}: {numbers}")
    return f"In {unit}: {'; '.join(parts) or 'nothing was measured'}."


def throughput(rows: Sequence[BenchmarkRow], published: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """Images per second against batch size; published speeds of the same network as extra labelled points."""

    def plot(axes: Axes, theme: Theme) -> None:
        _lines(axes, theme, rows, lambda row: row.images_per_s)
        for number, line in enumerate(published):
            sizes, speeds = zip(
                *sorted((int(size), speed) for size, speed in line["images_per_s"].items()), strict=True
            )
            axes.plot(
                sizes,
                speeds,
                ":",
                marker="x+*1"[number % 4],
                color=theme.series[-1],
                linewidth=1,
                label=f"{line['label']} (published)",
            )
        _batch_axis(axes, sorted({*_sizes(rows), *(int(size) for line in published for size in line["images_per_s"])}))
        axes.set_ylim(bottom=0)
        axes.set_ylabel("images/s")

    alt = _said(rows, lambda row: row.images_per_s, "images per second")
    lines = [f"{line['label']}: {line['images_per_s']}" for line in published]
    return draw(
        plot,
        "Throughput against batch size",
        alt + (f" Published, not measured here: {'; '.join(lines)}." if lines else ""),
    )


def roofline(record: BenchmarkRecord, published: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """Images per second against batch size under the two bounds: the memory's, by the weights, and the arithmetic's."""
    limits, model = record.limits, record.model
    assert limits is not None
    assert model is not None
    computing = 1e12 * limits.tflops_of_bound / model.flops_per_image
    reading = 1e9 * limits.gb_per_s_of_bound / model.bytes if limits.gb_per_s_of_bound else None
    sizes = np.array(_sizes(record.rows))

    def plot(axes: Axes, theme: Theme) -> None:
        wide = np.geomspace(sizes.min(), sizes.max(), 50) if len(sizes) > 1 else np.array([sizes[0] / 2, sizes[0] * 2])
        axes.plot(
            wide,
            np.full(len(wide), computing),
            color=theme.ink,
            linewidth=1.2,
            label=f"arithmetic bound: {computing:,.4g} images/s",
        )
        if reading:
            axes.plot(
                wide,
                reading * wide,
                color=theme.ink,
                linewidth=1.2,
                linestyle="--",
                label=f"memory bound: {reading:,.4g} images/s for each image of a batch",
            )
        _lines(axes, theme, record.rows, lambda row: row.images_per_s)
        for number, line in enumerate(published):
            own = [
                (int(size), speed)
                for size, speed in line["images_per_s"].items()
                if sizes.min() <= int(size) <= sizes.max()
            ]
            if own:
                axes.plot(
                    *zip(*own, strict=True),
                    "x+*1"[number % 4],
                    color=theme.series[-1],
                    label=f"{line['label']} (published)",
                )
        inside = {
            int(size) for line in published for size in line["images_per_s"] if sizes.min() <= int(size) <= sizes.max()
        }
        _batch_axis(axes, sorted({*_sizes(record.rows), *inside}))
        axes.set_yscale("log")
        axes.set_ylabel("images/s")

    said = f"Arithmetic bound {computing:.4g} images per second. "
    said += f"Memory bound {reading:.4g} for each image of a batch. " if reading else ""
    said += _said(record.rows, lambda row: row.images_per_s, "images per second")
    return draw(plot, "How far from what this device could do", said)


def latency(rows: Sequence[BenchmarkRow]) -> Figure:
    """Every timed call of every implementation: milliseconds per image, with the median marked."""
    groups = _by_implementation(rows)

    def plot(axes: Axes, theme: Theme) -> None:
        sizes = _sizes(rows)
        for number, (name, own) in enumerate(groups.items()):
            colour, shift = theme.series[number % len(theme.series)], (number - (len(groups) - 1) / 2) * 0.26
            for row in own:
                samples = np.array(row.samples_ms) / row.batch_size
                place = sizes.index(row.batch_size) + shift
                spread = np.random.default_rng(0).uniform(-0.08, 0.08, len(samples))
                axes.scatter(place + spread, samples, s=6, alpha=0.45, color=colour, linewidths=0, label=name)
                axes.plot(
                    [place], [np.median(samples)], "_", markersize=15, markeredgewidth=2.5, color=colour, label=name
                )
        axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        axes.set_xlabel("batch size (images)")
        axes.set_ylabel("ms per image")
        axes.set_yscale("log")

    alt = _said(rows, lambda row: row.ms_per_image, "mean milliseconds per image")
    return draw(plot, "Latency: every timed call (dots) and the median (bars)", alt)


def memory(rows: Sequence[BenchmarkRow], total_bytes: int | None, where: str) -> Figure:
    """Peak memory against batch size, and all the memory there is. `where` says what is counted, in words."""

    def gibibytes(row: BenchmarkRow) -> float | None:
        return row.peak_memory_bytes / 2**30 if row.peak_memory_bytes is not None else None

    def plot(axes: Axes, theme: Theme) -> None:
        _lines(axes, theme, rows, gibibytes)
        peak = max((gibibytes(row) or 0 for row in rows), default=0)
        if total_bytes and total_bytes / 2**30 < 4 * peak:
            axes.axhline(
                total_bytes / 2**30,
                color=theme.series[1],
                linestyle=":",
                label=f"all memory: {total_bytes / 2**30:.0f} GiB",
            )
        _batch_axis(axes, _sizes(rows))
        axes.set_ylim(bottom=0)
        axes.set_ylabel("peak memory (GiB)")

    return draw(plot, f"Peak memory against batch size ({where})", _said(rows, gibibytes, "GiB"))


def ratios(rows: Sequence[BenchmarkRow], baseline: str) -> Figure:
    """How many times as fast as the baseline, round by round of one alternating run: median and 95 % interval."""
    compared = [row for row in rows if row.ratio]

    def plot(axes: Axes, theme: Theme) -> None:
        groups, sizes = _by_implementation(compared), _sizes(compared)
        width = 0.8 / max(1, len(groups))
        for number, (name, own) in enumerate(groups.items()):
            places = [sizes.index(row.batch_size) + (number - (len(groups) - 1) / 2) * width for row in own]
            compared_ratios = [row.ratio for row in own if row.ratio]
            middle = np.array([ratio.median for ratio in compared_ratios])
            bars = np.array([[ratio.low, ratio.high] for ratio in compared_ratios]).T
            whiskers = {"ecolor": theme.ink, "capsize": 3, "elinewidth": 1}
            colour = theme.series[number % len(theme.series)]
            axes.bar(
                places, middle, width * 0.9, yerr=np.abs(bars - middle), error_kw=whiskers, color=colour, label=name
            )
        axes.axhline(1, color=theme.ink, linewidth=1, linestyle="--", label=baseline)
        axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        axes.set_xlabel("batch size (images)")
        axes.set_ylabel(f"times as fast as {baseline}")

    alt = _said(
        compared,
        lambda row: row.ratio.median if row.ratio else None,
        f"times as fast as {baseline}, median of the rounds",
    )
    return draw(plot, f"Against {baseline}, measured in turn in the same run: median and 95 % interval", alt)


def at_once(found: CardsAtOnce) -> Figure:
    """Images per second of each card while all worked, and of the first alone."""
    alone, names = found.alone_images_per_s, [str(one.process) for one in found.cards]

    def plot(axes: Axes, theme: Theme) -> None:
        speeds = [one.images_per_s for one in found.cards]
        middle = np.array([speed.mean for speed in speeds])
        bars = np.array([[speed.low or 0, speed.high or speed.mean] for speed in speeds]).T
        whiskers = {"ecolor": theme.ink, "capsize": 3, "elinewidth": 1}
        label = "all cards at once"
        axes.bar(
            range(len(names)),
            middle,
            0.7,
            yerr=np.abs(bars - middle),
            error_kw=whiskers,
            color=theme.series[0],
            label=label,
        )
        axes.axhline(
            alone.mean, color=theme.series[1], linestyle="--", label=f"the first alone: {alone.mean:,.4g} images/s"
        )
        axes.set_xticks(range(len(names)), names)
        axes.set_xlabel("process, one a card")
        axes.set_ylabel("images/s")

    speeds = ", ".join(f"{one.card} {one.images_per_s.mean:.4g}" for one in found.cards)
    alt = f"In images per second, while all worked: {speeds}; the first alone: {alone.mean:.4g}."
    return draw(plot, "Each card while all work, and the first alone (95 % intervals)", alt)
