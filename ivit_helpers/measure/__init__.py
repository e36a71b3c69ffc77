"""What several notebooks measure: the time of a call, and the error against a reference, beside transformers' own."""

from ivit_helpers.measure.fidelity import Agreement, ReferenceStates, block_errors, hidden_states, reference_states
from ivit_helpers.measure.peer import Peer
from ivit_helpers.measure.timing import Forward, Series, paired_ratios, pixel_batch, sweep, timed, timing_table

__all__ = [
    "Agreement", "Forward", "Peer", "ReferenceStates", "Series", "block_errors", "hidden_states", "paired_ratios", "pixel_batch",
    "reference_states", "sweep", "timed", "timing_table",
]  # fmt: skip
