"""Image files -> labelled images -> batches of pixel values, by the official transform. Importing this wing does not import torch."""

from ivit_helpers.images.aside import LeftAside, listed
from ivit_helpers.images.decoding import AUTO, Decoded, Decoder, batches, check_workers, in_order
from ivit_helpers.images.folders import digits, images_below
from ivit_helpers.images.imagenet import RULES, devkit_order, readable_names, synsets
from ivit_helpers.images.labelled_images import Label, LabelledImages, printable
from ivit_helpers.images.layouts import image_set
from ivit_helpers.images.regular import read_text
from ivit_helpers.images.single import dropped_image, named_image
from ivit_helpers.images.transform import ImageTransform, read_image, synthetic_pixels

__all__ = [
    "AUTO", "RULES", "Decoded", "Decoder", "ImageTransform", "Label", "LabelledImages", "LeftAside", "batches", "check_workers",
    "devkit_order", "digits", "dropped_image", "image_set", "images_below", "in_order", "listed", "named_image", "printable",
    "read_image", "read_text", "readable_names", "synsets", "synthetic_pixels",
]  # fmt: skip
