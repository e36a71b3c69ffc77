"""What several notebooks measure: the time of a call, and the error against a reference, beside transformers' own."""

from ivit_helpers.measure.conditions import watched
from ivit_helpers.measure.fidelity import Agreement, ReferenceStates, block_errors, hidden_states, reference_states
from ivit_helpers.measure.figures import layer_errors, ours_and_theirs, patch_components
from ivit_helpers.measure.launches import Audit, audited, host_and_device
from ivit_helpers.measure.peer import Peer
from ivit_helpers.measure.samples import AGREEMENT, interval, interval_in_words
from ivit_helpers.measure.timing import MOST_WINDOWS, WINDOWS, Forward, Series, paired_ratios, pixel_batch, sweep, timed, timing_table

__all__ = [
    "AGREEMENT", "MOST_WINDOWS", "WINDOWS", "Agreement", "Audit", "Forward", "Peer", "ReferenceStates", "Series", "audited",
    "block_errors", "hidden_states", "host_and_device", "interval", "interval_in_words",
    "layer_errors", "ours_and_theirs", "paired_ratios",
    "patch_components", "pixel_batch", "reference_states", "sweep", "timed", "timing_table", "watched",
]  # fmt: skip
