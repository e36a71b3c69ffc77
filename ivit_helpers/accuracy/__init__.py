"""Does it still classify? The wing of accuracy.ipynb."""

from ivit_helpers.accuracy.classes import name_classes
from ivit_helpers.accuracy.flips import Comparison, compare_runs, predictions_of
from ivit_helpers.accuracy.other_run import LEAST_P, against
from ivit_helpers.accuracy.predictions import predict
from ivit_helpers.accuracy.questions import (
    accounting_table,
    accuracy_table,
    begin,
    check_inputs,
    class_figures,
    headline,
    journal_of,
    keep,
    left_out,
    mistakes,
    overview,
    pace,
    published,
)

__all__ = [
    "LEAST_P", "Comparison", "accounting_table", "accuracy_table", "against", "begin", "check_inputs", "class_figures", "compare_runs",
    "headline", "journal_of", "keep", "left_out", "mistakes", "name_classes", "overview", "pace", "predict", "predictions_of", "published",
]  # fmt: skip
