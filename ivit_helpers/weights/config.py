"""What a model folder says about its network and its images: config.json, preprocessor_config.json, or shapes."""

from collections.abc import Mapping
from dataclasses import fields
from itertools import count
from math import isqrt
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ivit_helpers.errors import InputError
from ivit_helpers.images.transform import ImageTransform
from ivit_helpers.model.network import SHAPES, InternViTConfig
from ivit_helpers.weights.files import read_json
from ivit_helpers.weights.names import Naming

Config = Mapping[str, Any]
"""What a config.json holds"""
REQUIRED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size")
"""Keys that every config.json of an InternViT has; another one that is missing has the published network's value.

Keys for training alone are ignored: dropout and drop path are the identity in inference, and every tensor comes from a
file, so initial values do not matter.
"""


def kind_of(content: Config | None) -> str:
    """What a config.json without the network's keys is of, and what to do, as the end of a sentence."""
    advice = "give the folder of an InternViT, such as OpenGVLab/InternViT-6B-224px"
    if content is None:
        return f"there is no config.json: {advice}"
    if "vision_config" in content:
        return f"config.json is a chat model's ({content.get('model_type')}): give the chat model's own folder"
    if "architecture" in content:
        return (
            f"config.json is timm's, of {content['architecture']}: of timm's models only vit_intern300m_patch14_448 is "
            "an InternViT"
        )
    named = f"of model_type {content['model_type']!r}" if "model_type" in content else "of an unknown model"
    return f"config.json is {named}: {advice}"


def network_config(
    content: Config | None, naming: Naming, stored: Mapping[str, Tensor], source: Path
) -> InternViTConfig:
    """The network that a config.json describes, or its tensors where it is silent.

    It is silent where there is none, where it is timm's, and where it is of a chat model that does not describe its
    vision network. Raises InputError for a config.json of something else, and for one that asks for what this network
    does not compute.
    """
    if content is None or str(content.get("architecture", "")).startswith("vit_intern300m"):
        return config_of_tensors(naming, stored, source)
    section = content.get("vision_config")
    keys = dict(section) if isinstance(section, Mapping) else dict(content)
    if naming.splits_qkv:  # transformers' keys and defaults
        keys = {"norm_type": "layer_norm", "attention_bias": False, "use_qk_norm": False} | keys
        keys |= {"qkv_bias": keys["attention_bias"], "qk_normalization": keys["use_qk_norm"]}
    for side in ("image_size", "patch_size"):  # transformers writes [side, side]
        if isinstance(keys.get(side), list) and len(set(map(str, keys[side]))) == 1:
            keys[side] = keys[side][0]
    if missing := [name for name in REQUIRED if name not in keys]:
        if naming.prefix:
            return config_of_tensors(naming, stored, source)
        raise InputError(
            f"{source} cannot be read as an InternViT: config.json has no {', '.join(missing)}, and {kind_of(content)}."
        )
    if (activation := keys.get("hidden_act", "gelu")) != "gelu":
        raise InputError(
            f"config.json of {source}: hidden_act is {activation!r}, and this network computes 'gelu' only (the exact "
            "one): its answers would be wrong, so give a model with 'gelu'."
        )
    try:
        return InternViTConfig(**{one.name: keys[one.name] for one in fields(InternViTConfig) if one.name in keys})
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def config_of_tensors(naming: Naming, stored: Mapping[str, Tensor], source: Path) -> InternViTConfig:
    """The network that tensors of these shapes (by stored name) are for.

    Shapes do not give the number of attention heads: it is that of the published network of the same width.
    Raises InputError where there is none.
    """

    def shape(published: str) -> tuple[int, ...] | None:
        tensor = stored.get(naming.names(published)[0])
        return None if tensor is None else tuple(tensor.shape)

    first = "encoder.layers.0."
    patches = shape("embeddings.patch_embedding.weight") or ()
    positions, inner = shape("embeddings.position_embedding") or (), shape(f"{first}mlp.fc1.weight")
    heads = {known.hidden_size: known.num_attention_heads for known in SHAPES.values()}
    grid = isqrt(max(positions[1] - 1, 0)) if len(positions) == 3 else 0
    if len(patches) != 4 or not inner or not grid or grid**2 != positions[1] - 1 or patches[0] not in heads:
        raise InputError(
            f"{source} holds no InternViT of a published width ({', '.join(map(str, heads))}), so its config does not "
            "follow from its tensors: put its config.json beside it."
        )
    return InternViTConfig(
        hidden_size=patches[0],
        num_hidden_layers=next(number for number in count() if not shape(f"encoder.layers.{number}.ls1")),
        num_attention_heads=heads[patches[0]],
        intermediate_size=inner[0],
        image_size=patches[2] * grid,
        patch_size=patches[2],
        num_channels=patches[1],
        norm_type="layer_norm" if shape(f"{first}norm1.bias") else "rms_norm",
        qk_normalization=shape(f"{first}attn.q_norm.weight") is not None,
        qkv_bias=shape(f"{first}attn.qkv.bias") is not None,
    )


def image_transform(folder: Path, content: Config, config: InternViTConfig) -> ImageTransform:
    """The transform that a model folder describes. Where it is silent: the official one, at the network's image size.

    content: its config.json, whose `pretrained_cfg` is timm's description. Raises InputError for a description that
    cannot be, or that is not computed here.
    """
    path = folder / "preprocessor_config.json"
    try:
        if path.exists():
            written = read_json(path)
        elif timm := content.get("pretrained_cfg"):
            path = folder / "config.json"
            written = {
                "size": int(config.image_size / timm["crop_pct"]),
                "resample": Image.Resampling[timm["interpolation"].upper()].value,
                "image_mean": timm["mean"],
                "image_std": timm["std"],
            }
        else:
            written = {}
        sides = {"size": config.image_size, "crop_size": config.image_size}
        transform = ImageTransform.from_json(sides | {key: item for key, item in written.items() if item is not None})
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise InputError(
            f"{path} does not hold the sizes, means and deviations of a processor that is computed here: {error}."
        ) from None
    if transform.crop_size % config.patch_size:
        raise InputError(
            f"{path}: crop_size is {transform.crop_size}, and the network needs a multiple of its patch_size, "
            f"{config.patch_size}."
        )
    return transform
