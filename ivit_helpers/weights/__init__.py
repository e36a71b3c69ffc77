"""The `model` parameter -> a network with its weights on a device. Only tensors and JSON are taken from a weights folder, never code."""
