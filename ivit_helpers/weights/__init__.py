"""The `model` parameter -> a network with its weights on a device. Only tensors and JSON are taken from a weights folder, never code."""

from ivit_helpers.weights.checkpoint import Checkpoint, check, find
from ivit_helpers.weights.formats import transformers_tensors
from ivit_helpers.weights.head import head_classes, missing_head, unnamed_classes
from ivit_helpers.weights.hub import is_hub_id
from ivit_helpers.weights.loading import Loaded, check_memory, load

__all__ = [
    "Checkpoint", "Loaded", "check", "check_memory", "find", "head_classes", "is_hub_id", "load", "missing_head", "transformers_tensors",
    "unnamed_classes",
]  # fmt: skip
