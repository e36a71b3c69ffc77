"""Figures of an accuracy run: intervals, classes, batch times, and margins beside another run's."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from ivit_helpers.images.decoding import Decoder
from ivit_helpers.images.labelled_images import LabelledImages
from ivit_helpers.images.transform import ImageTransform
from ivit_helpers.model.published import PublishedAccuracy
from ivit_helpers.record.rows import AccuracyRow
from ivit_helpers.report.figure import Figure, draw
from ivit_helpers.report.gallery import Gallery
from ivit_helpers.report.theme import Theme

_TOPS: tuple[Literal[5, 1], ...] = (5, 1)
FEW_CLASSES = 12
"""Classes of a confusion matrix whose counts are written into its cells"""
STRETCHES = 400
"""Of a line of very many values: about as many as the figure is points wide"""
LONGEST = 32  # characters of a class name beside an axis, which needs the room for itself


def _short(names: Iterable[str]) -> list[str]:
    """Class names that leave room for the axes: of long ones the beginning."""
    return [name if len(name) <= LONGEST else name[: LONGEST - 1] + "…" for name in names]


def _side(percent: float) -> str:
    """How text at a percentage is aligned so that it stays within the axis."""
    return "right" if percent > 99 else "left" if percent < 1 else "center"


def intervals(row: AccuracyRow, published: PublishedAccuracy | None = None) -> Figure:
    """Top-1 and top-5 with their 95 % intervals; published figures as labelled vertical marks."""

    def plot(axes: Axes, theme: Theme) -> None:
        for place, k in enumerate(_TOPS):
            middle, low, high = (100 * value for value in row.best(k))
            spread = [[middle - low], [high - middle]]
            axes.errorbar(
                middle, place, xerr=spread, fmt="o", capsize=5, color=theme.series[0], label="measured", clip_on=False
            )
            align = _side(middle)
            axes.annotate(
                f"{middle:.2f} %",
                (middle, place),
                textcoords="offset points",
                xytext=(0, 12),
                ha=align,
                label="measured",
            )
            if published:
                there = 100 * published.best(k)
                axes.plot(
                    there,
                    place,
                    "|",
                    markersize=20,
                    markeredgewidth=2,
                    color=theme.series[1],
                    label="published",
                    clip_on=False,
                )
                axes.annotate(f"{there:.2f} %", (there, place), textcoords="offset points", xytext=(0, -19), ha=_side(there),
                              color=theme.series[1], fontsize=8.5, label="published")  # fmt: skip
        axes.set_yticks([0, 1], ["top-5", "top-1"])
        axes.set_ylim(-0.6, 1.6)
        low, high = axes.get_xlim()
        axes.set_xlim(max(0, low - 1), min(100, high + 1))
        axes.set_xlabel(f"% of {row.scored:,} scored images, 95 % interval")

    alt = "; ".join("top{}: {:.2%}, 95 % interval {:.2%} to {:.2%}".format(k, *row.best(k)) for k in reversed(_TOPS))
    theirs = (
        f" Published, not measured here: top1 {published.top1:.2%}, top5 {published.top5:.2%}." if published else ""
    )
    return draw(plot, "Accuracy", f"{alt}; of {row.scored} images.{theirs}", height=2.4)


def class_accuracy(frame: pd.DataFrame, most: int = 20) -> Figure:
    """Top-1 by class with 95 % intervals; of many classes, the worst."""
    shown = frame.nsmallest(most, "top1") if len(frame) > most else frame.iloc[::-1]

    def plot(axes: Axes, theme: Theme) -> None:
        middle = 100 * shown["top1"]
        bars = [middle - 100 * shown["low"], 100 * shown["high"] - middle]
        axes.errorbar(
            middle,
            range(len(shown)),
            xerr=np.abs(np.array(bars)),
            fmt="o",
            capsize=3,
            color=theme.series[0],
            clip_on=False,
        )
        axes.set_yticks(range(len(shown)), _short(shown["class"]))
        axes.set_xlim(left=max(0, 100 * shown["low"].min() - 2), right=100)
        axes.set_xlabel("top-1 (%), 95 % interval")
        axes.set_ylabel("class")

    worst = frame.loc[frame["top1"].idxmin()]
    which = f"the {most} worst of {len(frame)}" if len(frame) > most else f"all {len(frame)}"
    alt = f"{which} classes; the lowest is {worst['class']} with {worst['hits']} of {worst['images']}."
    return draw(plot, f"Top-1 by class ({which})", alt, height=max(2.4, 0.26 * len(shown) + 0.9))


def confusion(frame: pd.DataFrame) -> Figure:
    """Counts of true against predicted class."""

    def plot(axes: Axes, theme: Theme) -> None:
        counts = frame.to_numpy()
        off_diagonal = counts - np.diag(np.diag(counts))
        axes.imshow(counts, aspect="auto", norm="asinh", interpolation="nearest", label="images")
        axes.grid(visible=False)
        if len(frame) <= FEW_CLASSES:
            for i, j in np.argwhere(counts):
                weight = "bold" if off_diagonal[i, j] else "normal"
                axes.text(
                    j, i, str(counts[i, j]), ha="center", va="center", fontsize=8.5, color=theme.ink, fontweight=weight
                )
            axes.set_xticks(range(len(frame)), _short(frame.columns))
            axes.set_yticks(range(len(frame)), _short(frame.index))
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")

    wrong = int(frame.to_numpy().sum() - np.trace(frame.to_numpy()))
    return draw(
        plot,
        "Confusion",
        f"{len(frame)} classes; {wrong} of {int(frame.to_numpy().sum())} images off the diagonal.",
        height=3.9,
    )


def pictures(
    images: LabelledImages, transform: ImageTransform, numbers: Sequence[int], captions: Sequence[str]
) -> Gallery:
    """Images of the set, by number, as the network saw them.

    An image that has become missing or unreadable since is shown in grey, and its caption says why.
    """
    decoded = [Decoder(images, transform)(int(number)) for number in numbers]
    grey = np.full((transform.crop_size, transform.crop_size, 3), 128, np.uint8)
    crops = [Image.fromarray(grey if one.crop is None else one.crop) for one in decoded]
    gone = [f" (now {one.fault}: {one.reason})" if one.fault else "" for one in decoded]
    return Gallery(crops, [caption + reason for caption, reason in zip(captions, gone, strict=True)], size=112)


def _extremes(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The places of the lowest and the highest value of each of STRETCHES stretches: a line through them looks as one through all."""
    if len(values) <= 2 * STRETCHES:
        return np.arange(len(values))
    stretches = np.array_split(np.arange(len(values)), STRETCHES)
    return np.unique([place for one in stretches for place in (one[values[one].argmin()], one[values[one].argmax()])])


def batch_times(batches: pd.DataFrame) -> Figure:
    """Time of each batch in order; the first batch, which also loads kernels and may compile, has a mark of its own."""
    milliseconds = 1e3 * batches["seconds"].to_numpy()
    drawn = _extremes(milliseconds)

    def plot(axes: Axes, theme: Theme) -> None:
        axes.plot(
            drawn + 1, milliseconds[drawn], "-", marker="o", markersize=3, color=theme.series[0], label="each batch"
        )
        axes.plot(
            1, milliseconds[0], "s", zorder=3, color=theme.series[1], label=f"first batch: {milliseconds[0]:.1f} ms"
        )
        axes.axhline(
            np.median(milliseconds),
            linestyle="--",
            color=theme.series[2],
            label=f"median: {np.median(milliseconds):.1f} ms",
        )
        axes.set_ylim(bottom=0)
        axes.set_xlabel("batch, in order")
        axes.set_ylabel("ms per batch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    alt = f"{len(batches)} batches: the first took {milliseconds[0]:.1f} ms, the median is {np.median(milliseconds):.1f} ms."
    return draw(plot, "Time of each batch, in order", alt)


def margin_changes(answered: pd.DataFrame, near_tie: float) -> Figure:
    """How far each image's margin moved between two runs, against its margin in the other run; flips have a mark of their own.

    answered: margin_there and change in logits, and flipped, of every image.
    """
    flipped = answered[answered["flipped"]]
    smallest = 1e-4  # logits; smaller ones are drawn here

    def plot(axes: Axes, theme: Theme) -> None:
        for shown, label, size, opacity, colour in (
            (answered[~answered["flipped"]], "same answer", 6, 0.5, theme.series[0]),
            (flipped, "flipped", 36, 1, theme.series[1]),
        ):
            place, change = (shown[name].clip(smallest) for name in ("margin_there", "change"))
            axes.scatter(
                place, change, s=size, alpha=opacity, color=colour, linewidths=0, label=f"{label}: {len(shown)}"
            )
        most = max(2 * near_tie, float(answered["margin_there"].max()))
        axes.plot(
            [smallest, most],
            [smallest, most],
            "--",
            color=theme.ink,
            linewidth=1,
            label="a change as large as the margin can flip",
        )
        axes.axvline(near_tie, linestyle=":", color=theme.series[2], label=f"near tie: up to {near_tie:.3g}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("margin in the other run (logits)")
        axes.set_ylabel("change of the margin (logits)")

    largest = (
        f"; the largest margin among the flipped is {flipped['margin_there'].max():.3g} logits" if len(flipped) else ""
    )
    alt = f"{len(flipped)} of {len(answered)} images flipped{largest}. The median change is {answered['change'].median():.2e} logits."
    return draw(plot, "Change of the margin between the two runs", alt)
