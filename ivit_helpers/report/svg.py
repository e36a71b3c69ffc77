"""What matplotlib draws, as SVG inside a page: small, in the colours of the page, and without ids of its own."""

import io
import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from html import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from ivit_helpers.report.points import MOST, Box, Point
from ivit_helpers.report.theme import with_variables

ID = "@@"
"""Stands for what makes the ids of one shown figure its own"""
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_MOST_DOTS = 4000
LETTER = 5.8
"""Points of a letter of the words beside a value"""
DARKEST = 0.5
"""Opacity of the darkest cell: ink has a contrast of 4.5 to 1 on it, in both schemes"""


def drawing(canvas: Canvas, inserted: dict[str, str]) -> str:
    """The picture as elements of an SVG. inserted: what takes the place of an empty artist, by its gid."""
    whole = io.StringIO()
    canvas.savefig(whole, format="svg", metadata=_NO_METADATA, transparent=True)
    inner = re.sub(
        r"^.*?<svg[^>]*>|</svg>\s*$|<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>",
        "",
        whole.getvalue(),
        flags=re.DOTALL,
    )
    for gid, element in inserted.items():
        inner = re.sub(rf'<g id="{gid}"\s*(?:/>|>\s*</g>)', lambda _, element=element: element, inner)  # type: ignore[misc]
    return with_variables(_shorter(_own_ids(inner)))


def _own_ids(inner: str) -> str:
    """Ids that are referred to are made the figure's own, those of series become classes, and the others go."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', inner))

    def kept(found: re.Match[str]) -> str:
        if found[1] in used:
            return f' id="{ID}{found[1]}"'
        return f' class="{found[1]}"' if re.fullmatch(r"s\d+", found[1]) else ""

    inner = re.sub(r' id="([^"]*)"', kept, inner)
    return re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{ID}", inner).replace("xlink:href", "href")


def _shorter(inner: str) -> str:
    """The same picture in fewer characters; the font is the page's."""
    inner = re.sub(r"font-family: [^;\"]*;? ?", "", inner)
    inner = re.sub(
        r"font: (?:(bold|\d+) )?([\d.]+px)[^;\"]*",
        lambda found: f"font-size: {found[2]}" + (f"; font-weight: {found[1]}" if found[1] else ""),
        inner,
    )
    inner = re.sub(r' transform="rotate\(-?0 [^"]*"', "", inner)
    inner = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), inner)
    inner = re.sub(r"\s*\n\s*", " ", inner)
    inner = re.sub(r"> <", "><", inner)
    for _ in range(3):
        inner = re.sub(r"<g>((?:(?!<g[ >]|</g>).)*)</g>", r"\1", inner)
    return inner.strip()


def dots(axes: Axes, collection: PathCollection, number: int | None, height: float) -> str:
    """Many dots as one element: each a line of no length with a round end. Those that cover each other are drawn once."""
    places = np.asarray(axes.transData.transform(np.asarray(collection.get_offsets(), float)))
    places = np.unique(np.round(2 * places[np.isfinite(places).all(axis=1)]) / 2, axis=0)
    if len(places) > _MOST_DOTS:
        places = places[np.random.default_rng(0).choice(len(places), _MOST_DOTS, replace=False)]
    size = float(np.sqrt(collection.get_sizes()[0])) if len(collection.get_sizes()) else 3.0
    colours = collection.get_facecolor()
    colour = to_hex(colours[0]) if len(colours) else "#000000"
    path = "".join(f"M{x:g} {height - y:g}h0" for x, y in places)
    line = f"stroke: {colour}; stroke-width: {size:.1f}; stroke-linecap: round; stroke-opacity: {collection.get_alpha() or 1:g}"
    return f'<path class="{"" if number is None else f"s{number}"}" d="{path}" style="fill: none; {line}"/>'


def cells(points: Sequence[Point]) -> str:
    """A matrix: one colour, the darker the more, and never so dark that a count on it is hard to read."""
    return "".join(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" '.format(*point.box)
        + f'style="fill: var(--plot-0); fill-opacity: {DARKEST * (point.shade or 0):.2f}"/>'
        for point in points
    )


def targets(points: Sequence[Point], words: Sequence[Sequence[str]], width: float) -> str:
    """An invisible place on every value, larger than its mark, that says the value to pointer, keyboard and screen reader."""
    boxes = _apart(points)
    found = []
    for point, said, (left, top, wide, high) in zip(points, words, boxes, strict=True):
        name = escape("\n".join(said))
        lines = [part for line in said for part in textwrap.wrap(line, int(width / LETTER) - 1)]
        above = top - 4 - 11 * (len(lines) - 1)
        first = above if above > 10 else top + high + 11
        anchor, place = _beside(left + wide / 2, LETTER * max(map(len, lines)), width)
        tip = "".join(
            f'<tspan x="{place:.0f}" y="{first + 11 * number:.0f}">{escape(line)}</tspan>'
            for number, line in enumerate(lines)
        )
        series = "" if point.series is None else f" s{point.series}"
        found.append(
            f'<g class="point{series}" tabindex="0" role="img"><title>{name}</title>'
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{high:.1f}" rx="3"/>'
            f'<text class="tip" text-anchor="{anchor}" aria-hidden="true">{tip}</text></g>'
        )
    return f'<g class="points">{"".join(found)}</g>' if found else ""


def _beside(centre: float, length: float, width: float) -> tuple[str, float]:
    """Where words begin or end that are `length` long, so that they are near `centre` and within the picture."""
    if centre > width / 2:
        return "end", max(min(centre + 14, width - 2), length + 2)
    return "start", min(max(centre - 14, 2), width - 2 - length)


def _apart(points: Sequence[Point]) -> list[Box]:
    """The places to hit, smaller where marks of one series stand close together, and bands where those of several do."""
    boxes = [point.box for point in points]
    for number in {point.series for point in points}:
        own = [index for index, point in enumerate(points) if point.series == number and point.shade is None]
        centres = np.array(
            [(boxes[index][0] + boxes[index][2] / 2, boxes[index][1] + boxes[index][3] / 2) for index in own]
        )
        for index, centre in zip(own, centres, strict=True):
            distances = np.abs(centres - centre).max(axis=1)
            near = distances[distances > 0].min(initial=np.inf)
            left, top, wide, high = boxes[index]
            side = max(4.0, min(wide, near))
            if wide == high and side < wide:
                boxes[index] = (left + (wide - side) / 2, top + (high - side) / 2, side, side)
    for group in _piles(points, boxes):
        top, bottom = min(boxes[index][1] for index in group), max(boxes[index][1] + boxes[index][3] for index in group)
        for place, index in enumerate(group):
            left, _, wide, _ = boxes[index]
            boxes[index] = (left, top + place * (bottom - top) / len(group), wide, (bottom - top) / len(group))
    return boxes


def _piles(points: Sequence[Point], boxes: Sequence[Box]) -> list[list[int]]:
    """Marks above each other whose places overlap, from the upper one to the lower one."""
    columns = defaultdict[int, list[int]](list)
    for index, (left, _, wide, high) in enumerate(boxes):
        if points[index].shade is None and wide == high:  # bars and cells do not overlap
            columns[round(left + wide / 2)].append(index)
    piles: list[list[int]] = []
    for column in columns.values():
        reached = -math.inf
        for index in sorted(column, key=lambda index: boxes[index][1]):
            top, high = boxes[index][1], boxes[index][3]
            if top < reached:
                piles[-1].append(index)
            else:
                piles.append([index])
            reached = top + high
    return piles


def swatch(artists: Sequence[object]) -> str:
    """How a series is drawn, as a small picture for its key."""
    line = next((artist for artist in artists if not isinstance(artist, PathCollection)), None)
    if not isinstance(line, Line2D):
        face = next((colour for colour in map(_face, artists) if colour), "#1f2328")
        return with_variables(
            f'<svg viewBox="0 0 26 12" aria-hidden="true"><rect x="6" y="1" width="14" height="10" style="fill:{face}"/></svg>'
        )
    colour = to_hex(line.get_color())
    dashes = {"--": "6 3", "-.": "7 3 1.5 3", ":": "1.5 3"}.get(str(line.get_linestyle()), "")
    drawn = ""
    if line.get_linestyle() not in ("None", ""):
        drawn = f'<path d="M1 6H25" style="stroke:{colour};stroke-width:{line.get_linewidth():.1f};stroke-dasharray:{dashes or "none"}"/>'
    if line.get_marker() not in ("None", "", None):
        fill = to_hex(line.get_markerfacecolor()) if str(line.get_markerfacecolor()) != "none" else "none"
        drawn += f'<path d="{_outline(line)}" style="stroke:{to_hex(line.get_markeredgecolor())};fill:{fill};stroke-width:1.5"/>'
    return with_variables(f'<svg viewBox="0 0 26 12" aria-hidden="true">{drawn}</svg>')


def _face(artist: object) -> str:
    colour = artist.get_facecolor() if hasattr(artist, "get_facecolor") else ()
    first = np.atleast_2d(np.asarray(colour, float))
    return to_hex(first[0]) if first.size else ""


def _outline(line: Line2D) -> str:
    marker = MarkerStyle(line.get_marker())
    size = min(line.get_markersize(), 9.0)
    path = marker.get_path().transformed(marker.get_transform() + Affine2D().scale(size, -size).translate(13, 6))
    letters = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}
    return "".join(
        "Z" if code == Path.CLOSEPOLY else letters[code] + " ".join(f"{value:.1f}" for value in places)
        for places, code in path.iter_segments(simplify=False)
    )


def thin(line: Line2D) -> None:
    """A line of very many values loses its marks."""
    if len(np.atleast_1d(line.get_xdata())) > MOST:
        line.set_marker("")
