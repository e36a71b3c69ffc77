"""The model card of some runs. The wing of `ivit card`."""
