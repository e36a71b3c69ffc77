"""The matrix products of a forward pass alone: what no implementation of this network on this device can beat by much."""

import torch
from torch import Tensor

from ivit_helpers.model.network import Block, InternViT


class Products:
    """The products of every block and of the patch embedding, over the network's own weights and shapes, without what is between them.

    Attention is one product of queries, keys and values, by the network's own kernel. The operations are exactly those that
    `flops_per_image` counts. Inputs are normal numbers, made once for each batch size.
    """

    def __init__(self, network: InternViT) -> None:
        self.network = network
        self._tokens: dict[torch.Size, Tensor] = {}

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, height, width) -> the last product (B, N, C), a tensor without meaning."""
        config, embedding = self.network.config, self.network.embeddings.patch_embedding
        embedding(pixels)
        if pixels.shape not in self._tokens:
            shape = (len(pixels), config.tokens, config.hidden_size)
            self._tokens = {pixels.shape: torch.randn(shape, device=pixels.device).to(embedding.weight.dtype)}
        tokens = result = self._tokens[pixels.shape]
        for block in self.network.encoder.layers:
            assert isinstance(block, Block)
            result = self._of_block(block, tokens)
        return result

    def _of_block(self, block: Block, tokens: Tensor) -> Tensor:
        attention, mlp = block.attn, block.mlp
        q, k, v = (
            part.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part in attention.qkv(tokens).chunk(3, dim=-1)
        )
        attention.proj(self.network.kernels.attention(q, k, v).transpose(1, 2).flatten(2))
        last: Tensor = mlp.fc2(mlp.fc1(tokens))
        return last
