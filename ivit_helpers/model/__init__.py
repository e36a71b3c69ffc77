"""InternViT: the network, its kernels, which fused kernels are trusted on a device, and what others published about it."""

from ivit_helpers.model.kernel_check import KernelVerdict, trusted_kernels
from ivit_helpers.model.kernels import PLAIN, Kernels
from ivit_helpers.model.network import SHAPES, Block, ClassificationHead, Classifier, Embeddings, InternViT, InternViTConfig
from ivit_helpers.model.published import PublishedAccuracy, least_top1, published_accuracy, published_speeds, repository
from ivit_helpers.model.rounding import ALLOWED_MULTIPLE, FLOOR, reference_dtype, relative_error

__all__ = [
    "ALLOWED_MULTIPLE", "FLOOR", "PLAIN", "SHAPES", "Block", "ClassificationHead", "Classifier", "Embeddings", "InternViT",
    "InternViTConfig", "KernelVerdict", "Kernels", "PublishedAccuracy", "least_top1", "published_accuracy", "published_speeds",
    "reference_dtype", "relative_error", "repository", "trusted_kernels",
]  # fmt: skip
