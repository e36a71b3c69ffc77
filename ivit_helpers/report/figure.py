"""Figures: how a plot or a picture becomes HTML, for light and dark, with its text alternative."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from PIL import Image

WIDTH, HEIGHT, DPI = 5.2, 3.3, 150  # inches: at phone width a 10 point letter stays about 10 CSS pixels high


@dataclass(frozen=True)
class Theme:
    """The colours of one scheme; the series colours keep their order, and colour-blind readers can tell them apart."""

    ink: str
    faint: str
    paper: str
    series: tuple[str, ...]
    heat: str

    @property
    def settings(self) -> dict[str, Any]:
        ink = dict.fromkeys(["text.color", "axes.labelcolor", "xtick.color", "ytick.color"], self.ink)
        paper = dict.fromkeys(["figure.facecolor", "axes.facecolor", "legend.facecolor"], self.paper)
        quiet = dict.fromkeys(["axes.edgecolor", "grid.color", "legend.edgecolor"], self.faint)
        return {**ink, **paper, **quiet, "axes.grid": True, "grid.linewidth": 0.6, "font.size": 10, "axes.axisbelow": True,
                "axes.spines.top": False, "axes.spines.right": False, "legend.fontsize": 8.5, "legend.framealpha": 0.9}  # fmt: skip


LIGHT = Theme("#1f2328", "#d1d9e0", "#ffffff", ("#0550ae", "#bc4c00", "#1a7f37", "#8250df", "#6e7781"), "Blues")
DARK = Theme("#e6edf3", "#3d444d", "#151b23", ("#6cb6ff", "#f69d50", "#57ab5a", "#b083f0", "#9198a1"), "cividis")


@dataclass(frozen=True)
class Figure:
    """A picture in both schemes, with its caption and its text alternative."""

    title: str
    alt: str
    light: bytes
    dark: bytes

    def __repr__(self) -> str:
        return f"{self.title}: {self.alt}"

    def _repr_html_(self) -> str:
        light, dark = (f"data:image/png;base64,{base64.b64encode(data).decode()}" for data in (self.light, self.dark))
        return (
            f'<figure class="plot"><picture><source srcset="{dark}" media="screen and (prefers-color-scheme: dark)">'
            f'<img src="{light}" alt="{escape(self.alt)}" style="max-width:100%;width:640px"></picture>'
            f"<figcaption>{escape(self.title)}</figcaption></figure>"
        )


class Together:
    """One answer of several parts, each below the other."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.parts))

    def _repr_html_(self) -> str:
        return "".join(part._repr_html_() for part in self.parts)


class SideBySide(Together):
    """Figures that belong together: beside each other where there is room, below each other on a phone."""

    def _repr_html_(self) -> str:
        return f'<div class="plots">{super()._repr_html_()}</div>'


def _png(canvas: Canvas) -> bytes:
    """A PNG of 64 colours: a third of the size, and no visible difference in a plot."""
    whole, small = io.BytesIO(), io.BytesIO()
    canvas.savefig(whole, dpi=DPI, format="png")
    Image.open(whole).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def draw(plot: Callable[[Axes, Theme], None], title: str, alt: str, height: float = HEIGHT) -> Figure:
    """Call `plot` once for each scheme on fresh axes."""
    pictures = []
    for theme in (LIGHT, DARK):
        with matplotlib.rc_context(theme.settings):
            canvas = Canvas(figsize=(WIDTH, height), layout="constrained")
            FigureCanvasAgg(canvas)
            plot(canvas.add_subplot(), theme)
            pictures.append(_png(canvas))
    return Figure(title, alt, *pictures)


class Gallery:
    """Images with captions, as many in a row as there is room for."""

    def __init__(self, images: Sequence[Image.Image], captions: Sequence[str], *, size: int = 224) -> None:
        self.images, self.captions, self.size = list(images), list(captions), size

    def __repr__(self) -> str:
        return "\n".join(self.captions) or "no images"

    def _repr_html_(self) -> str:
        if not self.images:
            return "<p>None.</p>"
        cells = "".join(map(self._cell, self.images, self.captions))
        return f'<div class="gallery" style="display:flex;flex-wrap:wrap;gap:12px">{cells}</div>'

    def _cell(self, image: Image.Image, caption: str) -> str:
        buffer, kept = io.BytesIO(), image.copy()
        kept.thumbnail((self.size, self.size))
        kept.save(buffer, "PNG" if kept.getcolors(256) else "JPEG")
        kind = "png" if kept.getcolors(256) else "jpeg"
        source = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
        return (
            f'<figure style="margin:0;max-width:{self.size}px"><img src="{source}" alt="{escape(caption)}" '
            f'style="width:{self.size}px;max-width:100%"><figcaption>{escape(caption)}</figcaption></figure>'
        )
