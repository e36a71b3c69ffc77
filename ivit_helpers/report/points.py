"""The values that a plot shows, read from its axes: where each is in the picture, and what it says."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from ivit_helpers.report.ticks import Plain, said

MOST = 200
"""Values of one line that can be pointed at; a longer one has no marks"""
MOST_DOTS = 60
"""Dots of one series that can be pointed at; of more there is only the picture"""
MOST_CELLS = 400
RADIUS = 8.0  # points, of the place around a mark that a pointer may hit
Box = tuple[float, float, float, float]
"""x, y, width and height in points, from the upper left corner of the picture"""


@dataclass
class Point:
    """One value of a series: `box` is the place that a pointer hits."""

    series: int | None
    x: str
    y: str
    box: Box
    value: str = ""
    shade: float | None = None


def series_of(axes: Axes) -> dict[str, list[Artist]]:
    """The artists of every labelled series, in the order in which they were drawn. Artists with the same label belong together."""
    found: dict[str, list[Artist]] = {}
    containers: list[Any] = [container for container in axes.containers if _label(container)]
    parts = {id(part): _label(container) for container in containers for part in _parts(container)}
    for artist in [*containers, *axes.get_children()]:
        label = parts.get(id(artist)) or ("" if isinstance(artist, AxesImage) else _label(artist))
        if label:
            found.setdefault(label, []).extend(_parts(artist) if artist in containers else [artist])
    first = {
        label: min(order.get(id(artist), 0) for artist in artists)
        for order in [_order(axes)]
        for label, artists in found.items()
    }
    return dict(sorted(found.items(), key=lambda item: first[item[0]]))


def _order(axes: Axes) -> dict[int, int]:
    return {id(artist): place for place, artist in enumerate(axes.get_children())}


def _label(artist: Any) -> str:
    label = artist.get_label()
    return label if isinstance(label, str) and not label.startswith("_") else ""  # the label of an axis is an artist


def _parts(container: Any) -> list[Artist]:
    parts = [part for part in container.get_children() if isinstance(part, Artist)]
    bars = getattr(container, "errorbar", None)
    return parts + (_parts(bars) if bars else [])


def points_of(axes: Axes, series: dict[str, list[Artist]], height: float) -> list[Point]:
    """Every value that is marked on these axes. height: of the whole picture, in points."""
    numbers = {id(artist): number for number, artists in enumerate(series.values()) for artist in artists}
    found: list[Point] = []
    barred = set()
    for container in axes.containers:
        if isinstance(container, BarContainer):
            found += _of_bars(axes, container, numbers, height)
        if isinstance(container, ErrorbarContainer) and container.lines[0] is not None:
            barred.add(id(container.lines[0]))
            found += _of_line(axes, container.lines[0], numbers, height, container)
    for line in axes.lines:
        if (
            id(line) not in barred
            and line.get_marker() not in ("None", "", " ", None)
            and line.get_transform() == axes.transData
        ):
            found += _of_line(axes, line, numbers, height, None) if _label(line) else []
    for dots in few_dots(axes):
        if _label(dots):
            found += list(_around(axes, np.asarray(dots.get_offsets()), numbers.get(id(dots)), height))
    for image in axes.images:
        found += _of_image(axes, image, height)
    return found


def few_dots(axes: Axes) -> list[PathCollection]:
    """The scatters whose series has so few dots that each can say its value."""
    scatters = [one for one in axes.collections if isinstance(one, PathCollection)]
    counts = Counter[str]()
    for one in scatters:
        counts[_label(one)] += len(np.asarray(one.get_offsets()))
    return [one for one in scatters if counts[_label(one)] <= MOST_DOTS]


def _of_line(
    axes: Axes, line: Line2D, numbers: dict[int, int], height: float, bars: ErrorbarContainer | None
) -> list[Point]:
    places = np.column_stack([np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)])
    if len(places) > MOST:
        return []
    return list(_around(axes, places, numbers.get(id(line)), height, *_ranges(bars)))


def _ranges(bars: ErrorbarContainer | None) -> tuple[list[str], list[str]]:
    """The interval of every point in words, along x and along y."""
    if bars is None:
        return [], []
    segments = [segments.get_segments() for segments in bars.lines[2]]
    x = [f" ({said(ends[0][0])} to {said(ends[1][0])})" for ends in segments[0]] if bars.has_xerr else []
    y = [f" ({said(ends[0][1])} to {said(ends[1][1])})" for ends in segments[-1]] if bars.has_yerr else []
    return x, y


def _around(
    axes: Axes,
    places: Any,
    series: int | None,
    height: float,
    x_ranges: Sequence[str] = (),
    y_ranges: Sequence[str] = (),
) -> Iterator[Point]:
    drawn = np.asarray(axes.transData.transform(places)) if len(places) else np.empty((0, 2))
    for number, ((x, y), (across, up)) in enumerate(zip(places, drawn, strict=True)):
        if np.isfinite([x, y, across, up]).all():
            across_said = _said(axes.xaxis, x) + (x_ranges[number] if x_ranges else "")
            up_said = _said(axes.yaxis, y) + (y_ranges[number] if y_ranges else "")
            yield Point(series, across_said, up_said, (across - RADIUS, height - up - RADIUS, 2 * RADIUS, 2 * RADIUS))


def _of_bars(axes: Axes, bars: BarContainer, numbers: dict[int, int], height: float) -> Iterator[Point]:
    x_ranges, y_ranges = _ranges(bars.errorbar)
    for number, patch in enumerate(bars.patches):
        extent = patch.get_window_extent()
        upright = bars.orientation == "vertical"
        x = patch.get_x() + (patch.get_width() / 2 if upright else patch.get_width())
        y = patch.get_y() + (patch.get_height() if upright else patch.get_height() / 2)
        if np.isfinite([x, y]).all():
            yield Point(
                numbers.get(id(patch)),
                _said(axes.xaxis, x) + (x_ranges[number] if x_ranges else ""),
                _said(axes.yaxis, y) + (y_ranges[number] if y_ranges else ""),
                (extent.x0, height - extent.y1, extent.width, extent.height),
            )


def _of_image(axes: Axes, image: AxesImage, height: float) -> Iterator[Point]:
    """The cells of a small matrix that are not zero; `shade` is how dark each is."""
    cells = np.asarray(image.get_array())
    if cells.ndim != 2 or cells.size > MOST_CELLS:
        return
    shades = np.asarray(image.norm(cells))
    for row, column in np.argwhere(cells):
        (left, low), (right, high) = axes.transData.transform([(column - 0.5, row + 0.5), (column + 0.5, row - 0.5)])
        box = (left, height - high, right - left, high - low)
        value = f"{said(float(cells[row, column]))} {_label(image)}".strip()
        yield Point(None, _said(axes.xaxis, column), _said(axes.yaxis, row), box, value, float(shades[row, column]))


def _said(axis: Axis, value: float) -> str:
    """A value in the words of its axis: the label of the nearest tick where the ticks have labels of their own."""
    formatter, locator = axis.get_major_formatter(), axis.get_major_locator()
    places = np.array(locator.tick_values(0, 0), float) if isinstance(locator, FixedLocator) else np.empty(0)
    if isinstance(formatter, Plain) or not len(places):
        return said(float(value))
    return str(formatter(float(places[np.argmin(np.abs(places - value))])))
