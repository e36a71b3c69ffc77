"""How fast, how close to the limit, against whom? The wing of benchmark.ipynb."""

from ivit_helpers.benchmark.at_once import cards_at_once
from ivit_helpers.benchmark.ceilings import ceilings
from ivit_helpers.benchmark.implementations import implementations
from ivit_helpers.benchmark.questions import (
    agreement_table,
    begin,
    check_agreement,
    check_inputs,
    headline,
    measure,
    trust,
)
from ivit_helpers.benchmark.shown import limit_figures, memory_and_ratio_figures, numbers, speed_figures, which_batch
