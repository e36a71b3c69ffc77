"""How fast, how close to the limit, against whom? The wing of benchmark.ipynb."""

from ivit_helpers.benchmark.at_once import cards_at_once
from ivit_helpers.benchmark.ceilings import ceilings
from ivit_helpers.benchmark.implementations import implementations
from ivit_helpers.benchmark.products import Products
from ivit_helpers.benchmark.questions import agreement_table, begin, check_agreement, check_inputs, headline, measure, trust
from ivit_helpers.benchmark.ratios import ratio
from ivit_helpers.benchmark.shown import limit_figures, memory_and_ratio_figures, numbers, speed_figures, which_batch

__all__ = [
    "Products", "agreement_table", "begin", "cards_at_once", "ceilings", "check_agreement", "check_inputs", "headline", "implementations",
    "limit_figures", "measure",
    "memory_and_ratio_figures", "numbers", "ratio", "speed_figures", "trust", "which_batch",
]  # fmt: skip
