"""Small networks that tests build."""

import torch

from ivit_helpers.device import host
from ivit_helpers.model.kernels import fused
from ivit_helpers.model.network import InternViT, InternViTConfig
from ivit_helpers.weights.random_weights import random_tensor

SMALL = InternViTConfig(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, image_size=56)
FUSED = fused(host())
"""torch's own fused operators"""


def randomised(config: InternViTConfig, seed: int = 0) -> InternViT:
    """Every tensor different from every other, norms and layer scales included, so that a mix-up shows."""
    network = InternViT(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        tensor.copy_(random_tensor(name, tensor, generator, torch.float32))
    return network
