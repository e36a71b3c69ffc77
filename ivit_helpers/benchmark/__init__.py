"""How fast, how close to the limit, against whom? The wing of benchmark.ipynb."""

from ivit_helpers.benchmark.ceilings import ceilings
from ivit_helpers.benchmark.implementations import implementations
from ivit_helpers.benchmark.launches import launch_table
from ivit_helpers.benchmark.questions import (
    agreement_table,
    begin,
    check_agreement,
    check_inputs,
    headline,
    measure,
    memory_and_ratio_figures,
    published_table,
    speed_figures,
)
from ivit_helpers.measure import timing_table

__all__ = [
    "agreement_table", "begin", "ceilings", "check_agreement", "check_inputs", "headline", "implementations", "launch_table",
    "measure", "memory_and_ratio_figures", "published_table", "speed_figures", "timing_table",
]  # fmt: skip
