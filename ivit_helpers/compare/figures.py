"""Figures of a comparison, drawn from its rows alone."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from ivit_helpers.compare.speed import THRESHOLD
from ivit_helpers.record.rows import CompareRow
from ivit_helpers.report.figure import Figure, draw
from ivit_helpers.report.theme import Theme

MOST_LINES = 5
COLOURS = {"worse": 1, "better": 2, "no difference seen": 0, "not judged": 4}
"""Place of the colour of each outcome among the theme's"""


def label(row: CompareRow) -> str:
    """A row's name, with the notebook where that is not clear."""
    return f"{row.name} (smoke)" if row.notebook == "smoke" and row.kind != "ending" else row.name


def speed_changes(rows: Sequence[CompareRow]) -> Figure:
    """How many times as fast as the first run every configuration is, with its 95 % interval, and the band that is ignored."""
    shown = [row for row in rows if row.change is not None]
    several = len({row.run for row in shown}) > 1

    def plot(axes: Axes, theme: Theme) -> None:
        axes.axvspan(1 / (1 + THRESHOLD), 1 + THRESHOLD, color=theme.faint, alpha=0.5, linewidth=0)
        axes.axvline(1, color=theme.ink, linewidth=1, linestyle="--")
        for place, row in enumerate(shown):
            change = row.change or 0
            spread = (
                None
                if row.low is None or row.high is None
                else [[max(0.0, change - row.low)], [max(0.0, row.high - change)]]
            )
            style = "s" if row.outcome == "worse" else "o"
            axes.errorbar(
                change,
                place,
                xerr=spread,
                fmt=style,
                color=theme.series[COLOURS[row.outcome]],
                linewidth=2,
                label=row.outcome,
            )
        axes.set_yticks(
            range(len(shown)), [label(row) + (f", run {row.run + 1}" if several else "") for row in shown], fontsize=7.5
        )
        axes.invert_yaxis()
        axes.set_xlabel("times as fast as the first run")

    said = "; ".join(f"{label(row)}, run {row.run + 1}: {row.change:.3f}, {row.outcome}" for row in shown)
    title = "Speed against the first run: change and 95 % interval; within the band a change is ignored"
    return draw(
        plot,
        title,
        f"Times as fast as the first run. {said or 'Nothing was measured in both'}.",
        max(2.0, 0.9 + 0.26 * len(shown)),
    )


def history(rows: Sequence[CompareRow], runs: Sequence[str]) -> Figure:
    """The speed of configurations over all runs, relative to the first one: those that got worse, then the others in order."""
    by_name: dict[str, list[CompareRow]] = {}
    for row in rows:
        if row.kind == "speed" and row.change is not None:
            by_name.setdefault(label(row), []).append(row)
    order = sorted(by_name, key=lambda name: not any(row.outcome == "worse" for row in by_name[name]))[:MOST_LINES]

    def plot(axes: Axes, theme: Theme) -> None:
        axes.axhspan(1 / (1 + THRESHOLD), 1 + THRESHOLD, color=theme.faint, alpha=0.5, linewidth=0)
        for number, name in enumerate(order):
            own, colour = by_name[name], theme.series[number % len(theme.series)]
            axes.plot(
                [0, *(row.run for row in own)],
                [1, *(row.change or 0 for row in own)],
                "-",
                marker="osD^v"[number % 5],
                color=colour,
                label=name,
            )
            for row in own:
                if row.low is not None and row.high is not None:
                    axes.plot([row.run, row.run], [row.low, row.high], color=colour, linewidth=1)
        axes.set_xticks(range(len(runs)), [f"{place + 1}\n{run}" for place, run in enumerate(runs)], fontsize=7.5)
        axes.set_xlabel("run")
        axes.set_ylabel("times as fast as the first run")
        axes.legend()

    said = "; ".join(f"{name}: 1, {', '.join(f'{row.change:.3f}' for row in by_name[name])}" for name in order)
    title = f"Speed over the runs, for {len(order)} of {len(by_name)} configurations, with 95 % intervals"
    return draw(
        plot, title, f"Times as fast as the first run, run by run. {said or 'Nothing was measured in all runs'}."
    )
