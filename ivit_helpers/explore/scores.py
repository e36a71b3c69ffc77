"""What the model answers for one image: the classes with the highest scores."""

import torch
from matplotlib.axes import Axes
from torch import Tensor

from ivit_helpers.record.rows import Answer
from ivit_helpers.report.figure import Figure, draw
from ivit_helpers.report.table import Table
from ivit_helpers.report.theme import Theme
from ivit_helpers.weights.loading import Loaded

SHOWN = 5
LONGEST = 28
"""Characters of a class name beside a bar; the values below the figure have the whole name"""


def best_answers(logits: Tensor, classes: tuple[str, ...]) -> list[Answer]:
    """The classes of the highest scores, best first. logits: (classes,). A score that is not finite is null."""
    ranks = torch.nan_to_num(logits, nan=-torch.inf).argsort(descending=True, stable=True)[:SHOWN]
    scores = logits.softmax(dim=-1)
    return [Answer(name=classes[int(place)], score=float(scores[place])) for place in ranks]


def in_words(answers: list[Answer], name: str) -> str:
    """The first answer and the next one, in one sentence."""
    if answers[0].score is None:
        return f"{name} has no answer: its scores are not finite."
    then = f", then {answers[1].name} with {100 * (answers[1].score or 0):.1f} %" if len(answers) > 1 else ""
    return f"{name} is {answers[0].name} with a score of {100 * answers[0].score:.1f} %{then}."


def bars(answers: list[Answer], loaded: Loaded, name: str) -> Figure | Table:
    """The answers as bars, or in words where no score is finite."""
    if any(one.score is None for one in answers):
        return Table([{"answer": "there is none: the scores are not finite"}])

    def plot(axes: Axes, theme: Theme) -> None:
        places = range(len(answers))
        axes.barh(places, [100 * (one.score or 0) for one in answers], color=theme.series[0], height=0.6)
        axes.set_xlim(0, 100)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_yticks(list(places), [shortened(one.name) for one in answers])
        axes.set_xlabel("score, %")
        axes.set_ylabel("class")

    trained = "" if loaded.head_is_trained else "; the head is random, so the names mean nothing"
    alt = ", ".join(f"{one.name} {100 * (one.score or 0):.1f} %" for one in answers)
    return draw(plot, f"{name}: the {len(answers)} highest scores{trained}", alt, height=2.0)


def shortened(name: str) -> str:
    """A class name that fits beside a bar."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
