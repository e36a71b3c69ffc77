"""The authors' own names for the network's tensors, and the network that a file of tensors is for.

Source of the names: classification/models/intern_vit_6b.py of the OpenGVLab/InternVL repository.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ivit_helpers.errors import InputError
from ivit_helpers.model import SHAPES, InternViTConfig

WRAPPERS = ("module", "model")
"""Keys under which a training checkpoint holds its tensors"""
IGNORED = "clip_projector."
"""Belongs to InternVL's contrastive head and is in some of the authors' files"""
BEGINNINGS = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj.": "embeddings.patch_embedding.",
    "blocks.": "encoder.layers.",
}
ENDINGS = {".ls1.gamma": ".ls1", ".ls2.gamma": ".ls2"}


def published_names(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a pickled checkpoint by their published names. Raises InputError where there are none."""
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise InputError(f"{path} holds no state dict (names and tensors, or those under {' or '.join(map(repr, WRAPPERS))}).")
    return {_published(name): tensor for name, tensor in content.items()} if "cls_token" in content else dict(content)


def _published(name: str) -> str:
    for theirs, published in BEGINNINGS.items():
        if name.startswith(theirs):
            name = published + name.removeprefix(theirs)
    for theirs, published in ENDINGS.items():
        if name.endswith(theirs):
            name = name.removesuffix(theirs) + published
    return name


def config_of(shapes: Mapping[str, tuple[int, ...]], path: Path) -> InternViTConfig:
    """The config of a file that comes without one, from its tensors' shapes by published name.

    Shapes do not tell the number of attention heads: that is taken from the published network of the same width.
    """
    try:
        width, channels, patch, _ = shapes["embeddings.patch_embedding.weight"]
        tokens = shapes["embeddings.position_embedding"][1]
        first = "encoder.layers.0."
        inner = shapes[f"{first}mlp.fc1.weight"][0]
        heads = {known.hidden_size: known.num_attention_heads for known in SHAPES.values()}[width]
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(
            f"{path} is no InternViT whose config could be told from its tensors ({error}): put its config.json beside it."
        ) from None
    return InternViTConfig(
        hidden_size=width,
        num_hidden_layers=len({name.split(".")[2] for name in shapes if name.startswith("encoder.layers.")}),
        num_attention_heads=heads,
        intermediate_size=inner,
        image_size=patch * round((tokens - 1) ** 0.5),
        patch_size=patch,
        num_channels=channels,
        norm_type="layer_norm" if f"{first}norm1.bias" in shapes else "rms_norm",
        qk_normalization=f"{first}attn.q_norm.weight" in shapes,
        qkv_bias=f"{first}attn.qkv.bias" in shapes,
    )
