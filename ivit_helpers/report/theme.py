"""The colours of figures and tables, for light and for dark, as custom properties of CSS; and the style that comes with every output."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).resolve().parent / "template"
MOST_SERIES = 12
"""Series of one figure that a reader can switch off"""
CARDS_BELOW = (400, 560, 760, 980, 1200)
"""Widths of the place of a table, in pixels of CSS: one that needs more shows each row as a card"""


@dataclass(frozen=True)
class Theme:
    """The colours of one scheme; the series colours keep their order, and colour-blind readers can tell them apart."""

    ink: str
    faint: str
    paper: str
    series: tuple[str, ...]
    heat: str = "Blues"

    @property
    def settings(self) -> dict[str, Any]:
        """matplotlib's settings for a figure in these colours."""
        ink = dict.fromkeys(["text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"], self.ink)
        quiet = dict.fromkeys(["axes.edgecolor", "grid.color", "xtick.color", "ytick.color"], self.faint)
        return {**ink, **quiet, "axes.grid": True, "grid.linewidth": 0.6, "font.size": 10, "axes.axisbelow": True,
                "axes.spines.top": False, "axes.spines.right": False, "axes.formatter.useoffset": False, "text.parse_math": False,
                "axes.formatter.limits": (-4, 6), "svg.fonttype": "none", "svg.hashsalt": "ivit"}  # fmt: skip

    @property
    def variables(self) -> dict[str, str]:
        """The custom properties that stand for these colours, by name."""
        return {"--plot-ink": self.ink, "--plot-faint": self.faint, "--plot-paper": self.paper} | {
            f"--plot-{number}": colour for number, colour in enumerate(self.series)
        }


LIGHT = Theme("#1f2328", "#d1d9e0", "#ffffff", ("#0550ae", "#bc4c00", "#1a7f37", "#8250df", "#6e7781"))
DARK = Theme("#e6edf3", "#3d444d", "#0d1117", ("#6cb6ff", "#f69d50", "#57ab5a", "#b083f0", "#9198a1"))
_WORDS_LIGHT = {"--quiet": "#59636e", "--card": "#f6f8fa", "--link": "#0550ae", "--good": "#116329", "--good-paper": "#dafbe1",
                "--bad": "#a40e26", "--bad-paper": "#ffebe9", "--open": "#6f5200", "--open-paper": "#fff8c5"}  # fmt: skip
_WORDS_DARK = {"--quiet": "#9aa4af", "--card": "#151b23", "--link": "#6cb6ff", "--good": "#7ee2a0", "--good-paper": "#10301c",
               "--bad": "#ff9492", "--bad-paper": "#3a1418", "--open": "#f0d27a", "--open-paper": "#332701"}  # fmt: skip


def with_variables(svg: str) -> str:
    """The colours of the light scheme in a text become the custom properties that stand for them."""
    names = {colour: name for name, colour in LIGHT.variables.items()}
    return re.sub("|".join(names), lambda found: f"var({names[found[0]]})", svg)


def _declared(*parts: Mapping[str, str]) -> str:
    return "".join(f"{name}:{value};" for part in parts for name, value in part.items())


@cache
def style() -> str:
    """The stylesheet of everything that a cell shows. It reaches nothing outside elements of class ivit, and of
    ivit-touch: widgets.

    The scheme is JupyterLab's where JupyterLab shows the output, and the browser's elsewhere; paper is always light.
    """
    light, dark = _declared(LIGHT.variables, _WORDS_LIGHT), _declared(DARK.variables, _WORDS_DARK)
    switches = "".join(f".ivit .plot:has(.k{n}:not(:checked)) .s{n}{{display:none}}" for n in range(MOST_SERIES))
    cards = (TEMPLATE / "cards.css").read_text("utf-8")
    narrow = "".join(
        f"@container table (max-width:{width}px){{\n{cards.replace('.cards', f'.cards{width}')}}}\n"
        for width in CARDS_BELOW
    )
    return (
        f".ivit{{{light}color-scheme:light}}\n"
        f"@media screen and (prefers-color-scheme:dark){{.ivit{{{dark}color-scheme:dark}}}}\n"
        f'@media screen{{[data-jp-theme-light="true"] .ivit{{{light}color-scheme:light}}'
        f'[data-jp-theme-light="false"] .ivit{{{dark}color-scheme:dark}}}}\n'
        f"@media screen{{{switches}}}\n{(TEMPLATE / 'output.css').read_text('utf-8')}@media screen{{\n{narrow}}}"
    )


def styled(content: str) -> str:
    """What a cell shows, with its style: a notebook has no stylesheet of this project's."""
    return f'<div class="ivit"><style>{style()}</style>{content}</div>'


def bare(html: str) -> str:
    """The same without its style, for a page that has it already."""
    return re.sub(r'(<div class="ivit">)<style>[^<]*</style>', r"\1", html)
