"""Small networks that tests build."""

from ivit_helpers.device.cpu import host
from ivit_helpers.model.kernels import fused
from ivit_helpers.model.network import InternViT, InternViTConfig
from ivit_helpers.weights.random_weights import normal_pool, random_tensor

SMALL = InternViTConfig(
    hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, image_size=56
)
FUSED = fused(host())
"""torch's own fused operators"""


def randomised(config: InternViTConfig, seed: int = 0) -> InternViT:
    """Every tensor different from every other, norms and layer scales included, so that a mix-up shows."""
    network = InternViT(config).eval().requires_grad_(False)
    for number, (name, tensor) in enumerate(network.state_dict().items()):
        tensor.copy_(random_tensor(name, tensor.shape, number + 1000 * seed, normal_pool()))
    return network
