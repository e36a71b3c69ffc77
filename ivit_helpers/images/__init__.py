"""Image files -> labelled images -> batches of pixel values, by the official transform. Importing this wing does not import torch."""
