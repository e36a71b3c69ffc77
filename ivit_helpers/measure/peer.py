"""transformers' InternVLVisionModel over this network's own tensors: an independent implementation."""

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import InternVLVisionConfig

from ivit_helpers.model.network import InternViT, InternViTConfig
from ivit_helpers.weights.names import TRANSFORMERS


def _transformers() -> ModuleType:
    """transformers' module of the peer; imported late, it takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its progress bars look for notebook widgets when they are imported
        from transformers.models.internvl import modeling_internvl
    return modeling_internvl


def _peer_config(config: InternViTConfig, attention: str = "sdpa") -> "InternVLVisionConfig":
    config_class: type[InternVLVisionConfig] = _transformers().InternVLVisionConfig

    return config_class(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        image_size=[config.image_size, config.image_size],
        patch_size=[config.patch_size, config.patch_size],
        num_channels=config.num_channels,
        attention_bias=config.qkv_bias,
        use_qk_norm=config.qk_normalization,
        norm_type=config.norm_type,
        layer_norm_eps=config.layer_norm_eps,
        layer_scale_init_value=0.1,
        use_mean_pooling=True,  # False would add a final norm that the published model does not have
        attn_implementation=attention,  # type: ignore[call-arg]  # taken by every transformers config
    )


class Peer(nn.Module):
    """transformers' InternVLVisionModel over a network's own tensors (views, no copy): pixels -> last hidden state (B, N, C).

    attention: transformers' name for how attention is computed: "sdpa" or "eager".
    """

    def __init__(self, network: InternViT, attention: str = "sdpa") -> None:
        super().__init__()
        with torch.device("meta"):
            model = _transformers().InternVLVisionModel(_peer_config(network.config, attention))
        model.load_state_dict(TRANSFORMERS.stored(network.state_dict()), strict=True, assign=True)
        self.model = model.eval().requires_grad_(False)
        self.dtype = network.embeddings.class_embedding.dtype

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden: Tensor = self.model(pixel_values.to(self.dtype)).last_hidden_state
        return hidden


def peer_part(kind: str, ours: nn.Module, place: str, config: InternViTConfig) -> Callable[[Tensor], Tensor]:
    """One part of transformers' model, of class `kind`, over the tensors of our own part, which is at `place` in the network."""
    with torch.device("meta"):
        part: nn.Module = getattr(_transformers(), kind)(_peer_config(config))
    tensors = TRANSFORMERS.stored({f"{place}.{name}": tensor for name, tensor in ours.state_dict().items()})
    theirs = place.replace("layers", "layer")
    part.load_state_dict(
        {name.removeprefix(f"{theirs}."): tensor for name, tensor in tensors.items()}, strict=True, assign=True
    )
    part.eval()

    def forward(x: Tensor) -> Tensor:
        out = part(x)
        hidden: Tensor = (
            out[0] if isinstance(out, tuple) else out
        )  # which of them return a tuple changed between versions
        return hidden

    return forward
