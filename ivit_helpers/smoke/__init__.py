"""Does it run, and is it right? The wing of smoke.ipynb."""

from ivit_helpers.smoke.correctness import agreement, blocks_alone
from ivit_helpers.smoke.questions import (
    check_inputs,
    configuration,
    diagnose,
    features,
    headline,
    look,
    memory_table,
    operator_table,
    steady_call,
    weights,
)
