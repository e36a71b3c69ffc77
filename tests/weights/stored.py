"""Writes a network under the names, and beside the configuration, that its users have it in."""

import json
from dataclasses import asdict

import torch
from safetensors.torch import save_file

from ivit_helpers.measure.peer import Peer
from ivit_helpers.model.network import InternViTConfig

RMS_NORM = InternViTConfig(128, 2, 4, 256, 56)
"""As the 6B networks, small"""
LAYER_NORM = InternViTConfig(128, 2, 4, 256, 56, norm_type="layer_norm", qk_normalization=False, qkv_bias=True)
"""As InternViT-300M, small"""
RENAMES = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding": "pos_embed",
    "embeddings.patch_embedding.": "patch_embed.proj.",
    "encoder.layers.": "blocks.",
    ".ls1": ".ls1.gamma",
    ".ls2": ".ls2.gamma",
}
FILES = {
    "model.safetensors": save_file,
    "pytorch_model.bin": torch.save,
    "weights.pth": lambda tensors, path: torch.save({"model": tensors, "epoch": 3}, path),
}


def published(network, prefix=""):
    """(tensors, config.json) as OpenGVLab publishes a network; under a prefix, inside a larger model."""
    config = {"model_type": "intern_vit_6b", "hidden_act": "gelu", **asdict(network.config)}
    chat = {"model_type": "internvl_chat", "vision_config": config}
    return _prefixed(network.state_dict(), prefix), chat if prefix == "vision_model." else config


def llava(network):
    """Inside a LLaVA checkpoint, whose config.json does not describe it."""
    return published(network, "model.vision_tower.vision_tower.")[0], {"model_type": "llava", "hidden_size": 4096}


def transformers(network, prefix=""):
    """As transformers' own class writes it; under a prefix, inside its chat model."""
    config = {"model_type": "internvl_vision", "hidden_act": "gelu", **asdict(network.config)}
    config |= {"attention_bias": config.pop("qkv_bias"), "use_qk_norm": config.pop("qk_normalization")}
    config |= {side: [config[side], config[side]] for side in ("image_size", "patch_size")}
    tensors = _prefixed(Peer(network).model.state_dict(), prefix)
    return tensors, {"model_type": "internvl", "vision_config": config} if prefix else config


def authors(network, prefix=""):
    """As the authors' training writes it."""
    tensors = network.state_dict()
    for ours, theirs in RENAMES.items():
        tensors = {name.replace(ours, theirs): tensor for name, tensor in tensors.items()}
    return _prefixed(tensors, prefix), published(network)[1]


def timm(network):
    """As timm writes it, with its description of the images."""
    images = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "crop_pct": 1.0, "interpolation": "bicubic"}
    return authors(network)[0], {"architecture": "vit_intern300m_patch14_448", "pretrained_cfg": images}


def _prefixed(tensors, prefix):
    others = {"language_model.norm.weight": torch.ones(3, dtype=torch.int8)} if prefix else {}
    return others | {f"{prefix}{name}": tensor.clone() for name, tensor in tensors.items()}


def stored(folder, tensors, config, file="model.safetensors"):
    """Write one weight file, and a config.json beside it; returns the `model` parameter for it."""
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    FILES[file](tensors, folder / file)
    return str(folder / file if file.endswith(".pth") else folder)
