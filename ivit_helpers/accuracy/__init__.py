"""Does it still classify? The wing of accuracy.ipynb."""

from ivit_helpers.accuracy.card_table import cards_table
from ivit_helpers.accuracy.classes import name_classes
from ivit_helpers.accuracy.evaluation import evaluate
from ivit_helpers.accuracy.other_run import against
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
