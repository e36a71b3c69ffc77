"""Does it still classify? The wing of accuracy.ipynb."""

from ivit_helpers.accuracy.classes import name_classes
from ivit_helpers.accuracy.other_run import against
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
    "accounting_table", "accuracy_table", "against", "begin", "check_inputs", "class_figures", "headline", "journal_of", "keep", "left_out",
    "mistakes", "name_classes", "overview", "pace", "predict", "published",
]  # fmt: skip
