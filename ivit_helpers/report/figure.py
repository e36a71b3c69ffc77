"""Figures: how a plot becomes a picture in HTML that says its values, follows the page's colours, and is followed by its numbers."""

import itertools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure as Canvas

from ivit_helpers.report import svg
from ivit_helpers.report.points import MOST_CELLS, Point, few_dots, points_of, series_of
from ivit_helpers.report.table import Table
from ivit_helpers.report.theme import LIGHT, MOST_SERIES, Theme, bare, styled
from ivit_helpers.report.ticks import readable

WIDTH, HEIGHT = 5.2, 3.1  # inches of 72 points: at phone width a 10 point letter is about 10 CSS pixels high
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Figure:
    """A picture with its keys, caption, text alternative and values. `picture` is an SVG whose ids are completed when it is shown."""

    title: str
    alt: str
    picture: str
    keys: str
    values: Table

    def __repr__(self) -> str:
        return f"{self.title}: {self.alt}"

    def _repr_html_(self) -> str:
        own = f"plot{next(_numbers)}-{zlib.crc32(self.picture.encode()):08x}-"  # unlike those of other figures, and of other sessions
        rows = len(self.values.frame)
        values = (
            f'<details class="values"><summary>values ({rows})</summary>{bare_content(self.values)}</details>'
            if rows
            else ""
        )
        return styled(
            f'<figure class="plot">{self.picture.replace(svg.ID, own)}{self.keys}'
            f"<figcaption>{escape(self.title)}</figcaption>{values}</figure>"
        )


class Together:
    """One answer of several parts, each below the other."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.parts))

    def _repr_html_(self) -> str:
        return styled("".join(bare(part._repr_html_()) for part in self.parts))


class SideBySide(Together):
    """Figures that belong together: beside each other where there is room, below each other on a phone."""

    def _repr_html_(self) -> str:
        return styled(f'<div class="plots">{"".join(bare(part._repr_html_()) for part in self.parts)}</div>')


def bare_content(part: Any) -> str:
    """The HTML of a part without its style."""
    return bare(part._repr_html_())


def draw(plot: Callable[[Axes, Theme], None], title: str, alt: str, height: float = HEIGHT) -> Figure:
    """Call `plot` with fresh axes and the colours to draw in, and make a figure of what it drew.

    Every labelled series gets a key that switches it on and off; artists with the same label are one series. A mark, a bar or a cell
    says its value, in the words of the axes. Of many dots of a series there is the picture alone. height: inches.
    """
    with matplotlib.rc_context(LIGHT.settings):
        canvas = Canvas(figsize=(WIDTH, height), dpi=72, layout="constrained")
        FigureCanvasSVG(canvas)
        axes = canvas.add_subplot()
        plot(axes, LIGHT)
        series = _settle(canvas, axes)
        points = points_of(axes, series, 72 * height)
        marked = dict.fromkeys(point.series for point in points if point.series is not None)
        inserted = _lighter(axes, series, points, 72 * height)
        inner = svg.drawing(canvas, inserted)
    words = [_words(axes, list(series), point, len(series) > 1) for point in points]
    picture = (
        f'<svg viewBox="0 0 {72 * WIDTH:g} {72 * height:g}" class="drawn"><g role="img" aria-label="{escape(alt)}">{inner}</g>'
        f"{svg.targets(points, words, 72 * WIDTH)}</svg>"
    )
    values = Table([_row(axes, list(series), point, len(marked) > 1) for point in points])
    return Figure(title, alt, picture, _keys(series), values)


def _settle(canvas: Canvas, axes: Axes) -> dict[str, list[Artist]]:
    """Fix where everything is: legend out, ticks readable, limits as they are; the artists of a series get its number as their gid."""
    legend = axes.get_legend()
    if legend:
        legend.remove()
    for line in axes.lines:
        svg.thin(line)
    bottom, top = axes.get_ylim()
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(bottom, max(top, 1.06 * axes.dataLim.y1) if bottom == 0 else top)  # a mark at the upper end is whole
    readable(axes.xaxis)
    readable(axes.yaxis)
    series = series_of(axes)
    for number, artists in enumerate(series.values()):
        for artist in artists:
            artist.set_gid(f"s{number}")
    canvas.draw_without_rendering()
    return series


def _lighter(axes: Axes, series: dict[str, list[Artist]], points: Sequence[Point], height: float) -> dict[str, str]:
    """Replace what would be heavy, or would have colours of its own, by empty artists; returns what to insert for each."""
    numbers = {id(artist): number for number, artists in enumerate(series.values()) for artist in artists}
    inserted, few = {}, few_dots(axes)
    for place, dots in enumerate(one for one in axes.collections if isinstance(one, PathCollection)):
        if dots not in few:
            inserted[f"dots{place}"] = svg.dots(axes, dots, numbers.get(id(dots)), height)
            dots.set_gid(f"dots{place}")
            dots.set_offsets(np.empty((0, 2)))
    for image in list(axes.images):
        cells = np.asarray(image.get_array())
        if cells.ndim == 2 and cells.size <= MOST_CELLS:
            inserted["cells"] = f"<g>{svg.cells([point for point in points if point.shade is not None])}</g>"
            axes.scatter([], [], gid="cells", zorder=0)
            image.set_visible(False)
        elif cells.ndim == 2:
            shades = np.ma.filled(image.norm(cells), 0.0)
            image.set_data(np.dstack([np.broadcast_to((0.25, 0.53, 0.88), (*cells.shape, 3)), shades]))
    return inserted


def _words(axes: Axes, names: Sequence[str], point: Point, named: bool) -> list[str]:
    """What a value says, line by line."""
    lines = [names[point.series]] if named and point.series is not None else []
    for label, value in ((axes.get_xlabel(), point.x), (axes.get_ylabel(), point.y)):
        lines.append(f"{label}: {value}" if label else value)
    return [*lines, point.value] if point.value else lines


def _row(axes: Axes, names: Sequence[str], point: Point, named: bool) -> dict[str, str]:
    row = {"series": names[point.series] if point.series is not None else ""} if named else {}
    row |= {axes.get_xlabel() or "of": point.x, axes.get_ylabel() or "value": point.y}
    return row | ({"count": point.value} if point.value else {})


def _keys(series: dict[str, list[Artist]]) -> str:
    """The keys of the series; more than one can be switched off each."""
    if not series:
        return ""
    found = []
    for number, (label, artists) in enumerate(series.items()):
        box = f'<input type="checkbox" checked class="k{number}">' if len(series) > 1 and number < MOST_SERIES else ""
        found.append(f"<label>{box}{svg.swatch(artists)}<span>{escape(label)}</span></label>")
    return f'<div class="keys">{"".join(found)}</div>'
