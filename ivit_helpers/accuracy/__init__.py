"""Does it still classify? The wing of accuracy.ipynb."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ivit_helpers.accuracy.card_table import cards_table
    from ivit_helpers.accuracy.classes import name_classes
    from ivit_helpers.accuracy.evaluation import evaluate
    from ivit_helpers.accuracy.flips import Comparison, compare_runs
    from ivit_helpers.accuracy.other_run import LEAST_P, against
    from ivit_helpers.accuracy.predictions import predict
    from ivit_helpers.accuracy.questions import (
        accounting_table,
        accuracy_table,
        begin,
        check_inputs,
        class_figures,
        headline,
        keep,
        left_out,
        mistakes,
        overview,
        pace,
        published,
    )
    from ivit_helpers.accuracy.reference import predictions_of
    from ivit_helpers.accuracy.worker import join

__all__ = [
    "LEAST_P", "Comparison", "accounting_table", "accuracy_table", "against", "begin", "cards_table", "check_inputs", "class_figures",
    "compare_runs", "evaluate", "headline", "join", "keep", "left_out", "mistakes", "name_classes", "overview", "pace", "predict",
    "predictions_of", "published",
]  # fmt: skip

_ELSEWHERE = {
    "LEAST_P": "other_run", "Comparison": "flips", "against": "other_run", "cards_table": "card_table", "compare_runs": "flips",
    "evaluate": "evaluation", "join": "worker", "name_classes": "classes", "predict": "predictions", "predictions_of": "reference",
}  # fmt: skip
"""The modules of what is not in questions.py"""


def __getattr__(name: str) -> Any:
    """Import a module when it is needed: a process for each card does without figures and notebooks, which take seconds to import."""
    if name not in __all__:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'questions')}"), name)
