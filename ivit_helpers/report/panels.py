"""Square pictures of one image that stand beside each other: the image itself, its patches in colours, and maps of one number a patch."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivit_helpers.report.theme import styled
from ivit_helpers.report.ticks import said

LEVELS = 24
"""Shades of a map: each is one shape, so that a page with many maps stays small"""


@dataclass(frozen=True)
class Panel:
    """A picture and what it shows, in words. `picture` is HTML; `scale` says what the lightest and the darkest shade are."""

    picture: str
    caption: str
    scale: tuple[str, str] | None = None

    def html(self) -> str:
        """The picture with its scale and caption."""
        low, high = map(escape, self.scale or ("", ""))
        scale = f'<div class="scale"><span>{low}</span><i></i><span>{high}</span></div>' if self.scale else ""
        return f"<figure>{self.picture}{scale}<figcaption>{escape(self.caption)}</figcaption></figure>"


class Panels:
    """Pictures beside each other, as many in a row as there is room for."""

    def __init__(self, panels: Sequence[Panel], caption: str = "", *, small: bool = False) -> None:
        self.panels, self.caption, self.small = list(panels), caption, small

    def __repr__(self) -> str:
        return "\n".join(filter(None, [self.caption, *(panel.caption for panel in self.panels)]))

    def _repr_html_(self) -> str:
        caption = f'<p class="caption">{escape(self.caption)}</p>' if self.caption else ""
        kind = "panels small" if self.small else "panels"
        return styled(f'{caption}<div class="{kind}">{"".join(panel.html() for panel in self.panels)}</div>')


class PanelColumns:
    """Columns of pictures, each with a heading: the same pictures of several things."""

    def __init__(self, columns: Mapping[str, Sequence[Panel]], caption: str = "") -> None:
        self.columns, self.caption = columns, caption

    def __repr__(self) -> str:
        return f"{self.caption}: {', '.join(self.columns)}"

    def _repr_html_(self) -> str:
        caption = f'<p class="caption">{escape(self.caption)}</p>' if self.caption else ""
        columns = "".join(
            f'<section class="panels"><h3>{escape(heading)}</h3>{"".join(panel.html() for panel in panels)}</section>'
            for heading, panels in self.columns.items()
        )
        return styled(f'{caption}<div class="columns">{columns}</div>')


def data_uri(image: Image.Image) -> str:
    """An image as an address that holds it: few pixels or few colours without loss, others as JPEG."""
    exact = image.width * image.height <= 64 * 64 or image.getcolors(256) is not None
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if exact else "JPEG", quality=88)
    return f"data:image/{'png' if exact else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def photograph(image: Image.Image, alt: str, marked: int | None = None, grid: int = 1) -> str:
    """An image, with an outline around patch `marked` (counted from 0 in rows) of `grid` by `grid` patches."""
    return _svg(
        f'<image href="{data_uri(image)}" width="{grid}" height="{grid}" preserveAspectRatio="none"/>',
        grid,
        alt,
        marked,
    )


def coloured_patches(image: Image.Image, alt: str) -> str:
    """An image of one pixel a patch, with sharp edges at any size."""
    return f'<img class="patches" src="{data_uri(image)}" alt="{escape(alt)}">'


def heat_map(values: NDArray[np.float64], low: float, high: float, alt: str, marked: int | None = None) -> str:
    """One number a patch (rows, columns), in shades of one colour from `low` (none) to `high` (full); not finite: crossed out."""
    rows, columns = values.shape
    finite = np.isfinite(values)
    spread = max(high - low, 1e-30)
    levels = np.rint(LEVELS * np.clip((np.where(finite, values, low) - low) / spread, 0, 1)).astype(int)
    shapes = []
    for level in range(1, LEVELS + 1):
        path = "".join(f"M{column} {row}{_run(length)}" for row, column, length in _runs(levels == level))
        shapes += [f'<path d="{path}" style="fill:var(--plot-0);fill-opacity:{level / LEVELS:.2f}"/>'] if path else []
    crosses = "".join(f"M{column} {row}l1 1m0-1l-1 1" for row, column in np.argwhere(~finite))
    shapes += [f'<path d="{crosses}" style="stroke:var(--bad);stroke-width:.15"/>'] if crosses else []
    frame = f'<rect width="{columns}" height="{rows}" style="fill:none;stroke:var(--plot-faint);stroke-width:.08"/>'
    return _svg("".join(shapes) + frame, columns, alt, marked)


def _run(length: int) -> str:
    return f"h{length}v1h-{length}z"


def _runs(cells: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """(Row, first column, length) of every run of true cells."""
    found = []
    for row, line in enumerate(cells):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(np.int8), [0]])))
        found += [(row, int(first), int(end - first)) for first, end in zip(edges[::2], edges[1::2], strict=True)]
    return found


def _svg(inner: str, side: int, alt: str, marked: int | None) -> str:
    outline = ""
    if marked is not None:
        row, column = divmod(marked, side)
        outline = (
            f'<rect x="{column}" y="{row}" width="1" height="1" class="marked" style="stroke-width:{side / 64:g}"/>'
        )
    return f'<svg viewBox="0 0 {side} {side}" role="img" aria-label="{escape(alt)}" shape-rendering="crispEdges">{inner}{outline}</svg>'


def scale_of(low: float, high: float) -> tuple[str, str]:
    """What stands at the ends of a map's scale."""
    words = [said(float(f"{end:.2g}")) for end in (low, high)]
    return words[0].replace("-", "−"), words[1].replace("-", "−")
