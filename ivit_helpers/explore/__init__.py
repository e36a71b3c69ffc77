"""What does the network see, and where do two devices part? The wing of explore.ipynb."""

from ivit_helpers.explore.questions import (
    answers,
    begin,
    blocks,
    check_inputs,
    headline,
    look,
    neighbours,
    two_sides,
    where,
)
