"""Figures of a smoke run."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from ivit_helpers.measure.figures import ours_and_theirs
from ivit_helpers.report.figure import Figure, draw
from ivit_helpers.report.theme import Theme


def block_errors(ours: Sequence[float], theirs: Sequence[float], allowed: Sequence[float]) -> Figure:
    """Relative error of each block's update, computed alone in float32, with what is accepted."""

    def plot(axes: Axes, theme: Theme) -> None:
        ours_and_theirs(axes, theme, 1, ours, theirs)
        axes.plot(range(1, len(allowed) + 1), allowed, ":", color=theme.ink, label="accepted up to here")
        axes.set_xlabel("block")

    alt = f"Relative error in float32: at most {max(ours):.2e} here, {max(theirs):.2e} for transformers on the CPU."
    return draw(plot, "Error of each block alone, in float32", alt)
