"""What is different between these runs, and did anything get worse? The wing of compare.ipynb."""

from ivit_helpers.compare.questions import (
    answers,
    begin,
    check_inputs,
    differences,
    endings,
    errors,
    headline,
    history,
    judge,
    speed_figure,
    speed_table,
    unmatched,
)
