"""The formats in which people store InternViT: one row each, recognised by the names of the tensors.

Sources of the names: the published folder; classification/models/intern_vit_6b.py and internvl_chat/ of the OpenGVLab/InternVL
repository; transformers' models/internvl/modeling_internvl.py; timm's models/vision_transformer.py (vit_intern300m_patch14_448).
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import reduce
from itertools import count
from math import isqrt
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ivit_helpers.errors import InputError
from ivit_helpers.model.network import SHAPES, InternViTConfig
from ivit_helpers.weights.regular import bare, shown

CLASS_TOKEN, POSITIONS = "embeddings.class_embedding", "embeddings.position_embedding"
T = TypeVar("T")
Config = Mapping[str, Any]
"""What a config.json holds"""


def _vision(content: Config) -> Config:
    """The part of a chat model's config.json that is about its vision network; any other config.json as it is."""
    section = content.get("vision_config")
    return section if isinstance(section, Mapping) else content


def _of_transformers(content: Config) -> Config:
    """transformers' keys and defaults as the published ones; a side written [side, side] as one number."""
    defaults = {"norm_type": "layer_norm", "attention_bias": False, "use_qk_norm": False}
    section = {**defaults, **_vision(content)}
    section |= {"qkv_bias": section["attention_bias"], "qk_normalization": section["use_qk_norm"]}
    sides = {key: section[key] for key in ("image_size", "patch_size") if isinstance(section.get(key), list)}
    return section | {key: side[0] for key, side in sides.items() if len(side) == 2 and side[0] == side[1]}


@dataclass(frozen=True)
class Format:
    """One way to store the network: the names of its tensors, and its config.json."""

    name: str
    prefix: str = ""
    """Before the name of each of the network's tensors; a tensor without it belongs to another part of the model"""
    renames: tuple[tuple[str, str], ...] = ()
    """(text in a published name, text in its place here), applied in this order"""
    splits_qkv: bool = False
    """Whether the rows for query, key and value are three tensors"""
    config: Callable[[Config], Config] | None = dict
    """config.json -> the published keys; None where the network follows from the shapes of its tensors"""
    mark: str = ""
    """A key that only this format's config.json has"""
    with_head: bool = False
    """Whether a classification head and InternVL's contrastive projector may be stored beside the network"""

    def names(self, published: str) -> list[str]:
        """The stored names of one published tensor: one, or those of its row thirds in order."""
        stored = self.prefix + reduce(lambda name, pair: name.replace(*pair), self.renames, published)
        return (
            [stored.replace(".qkv.", f".{part}_proj.") for part in "qkv"]
            if self.splits_qkv and ".qkv." in stored
            else [stored]
        )

    def stored(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The network's tensors by stored name: views, no copies."""
        named = {name: self.names(name) for name in tensors}
        return {
            part: rows
            for name, tensor in tensors.items()
            for part, rows in zip(named[name], tensor.chunk(len(named[name])), strict=True)
        }

    def joined(self, stored: Mapping[str, Tensor], published: Iterable[str]) -> dict[str, Tensor]:
        """The tensors by published name; only those that are stored in thirds are copied."""
        parts = {name: [stored[part] for part in self.names(name)] for name in published}
        return {name: rows[0] if len(rows) == 1 else torch.cat(rows) for name, rows in parts.items()}

    def head(self, names: Collection[str]) -> frozenset[str]:
        """Those of the stored names that are a classification head: `head.*`, and `norm.*` where it is a BatchNorm.

        Any other `norm.*` is a norm after the last block, which InternViT does not have.
        """
        if not self.with_head or "head.weight" not in names:
            return frozenset()
        return frozenset(
            name for name in names if name.startswith(("head.", "norm.") if "norm.running_var" in names else "head.")
        )

    def ignored(self, names: Iterable[str]) -> frozenset[str]:
        """Those of the stored names that are InternVL's contrastive projector, which is in some of the authors' files."""
        return frozenset(name for name in names if self.with_head and name.startswith("clip_projector."))


AUTHORS_NAMES = (
    ("embeddings.class_embedding", "cls_token"),
    ("embeddings.position_embedding", "pos_embed"),
    ("embeddings.patch_embedding.", "patch_embed.proj."),
    ("encoder.layers.", "blocks."),
    (".ls1", ".ls1.gamma"),
    (".ls2", ".ls2.gamma"),
)
TRANSFORMERS_NAMES = (
    ("embeddings.class_embedding", "embeddings.cls_token"),
    ("embeddings.position_embedding", "embeddings.position_embeddings"),
    ("embeddings.patch_embedding.", "embeddings.patch_embeddings.projection."),
    ("encoder.layers.", "encoder.layer."),
    (".ls1", ".lambda_1"),
    (".ls2", ".lambda_2"),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".attn.", ".attention."),
    (".proj.", ".projection_layer."),
)
PUBLISHED = Format("the published folder")
FORMATS = (
    PUBLISHED,
    Format("an InternVL chat folder", "vision_model.", config=_vision),
    Format("transformers' InternVLVisionModel", "", TRANSFORMERS_NAMES, splits_qkv=True, config=_of_transformers),
    Format(
        "transformers' InternVL chat folder",
        "vision_tower.",
        TRANSFORMERS_NAMES,
        splits_qkv=True,
        config=_of_transformers,
    ),
    Format(
        "transformers' InternVLModel",
        "model.vision_tower.",
        TRANSFORMERS_NAMES,
        splits_qkv=True,
        config=_of_transformers,
    ),
    Format("timm's vit_intern300m", "", AUTHORS_NAMES, config=None, mark="architecture", with_head=True),
    Format("the authors' own files", "", AUTHORS_NAMES, with_head=True),
)


def transformers_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by transformers' names, from those by published names: views, with query, key and value apart."""
    return next(form for form in FORMATS if form.splits_qkv and not form.prefix).stored(tensors)


def recognise(names: Collection[str], content: Config | None, source: Path) -> Format:
    """The format of weights with these stored names beside that config.json. Raises InputError where they are of no InternViT."""
    refuse_attention_pooling(names, source)
    for form in FORMATS:
        if form.names(CLASS_TOKEN)[0] in names and (not form.mark or form.mark in (content or {})):
            return form
    raise InputError(
        f"{source} holds no InternViT: its tensors ({', '.join(list(names)[:3])}, ...) are not named as in "
        f"{', '.join(form.name for form in FORMATS[:-1])} or {FORMATS[-1].name}, and {_kind(content)}."
    )


def of_head(stored: Mapping[str, T]) -> dict[str, T]:
    """The tensors of a head file; of a training checkpoint, which holds the network too, only those of its head."""
    names = next(
        (form.head(stored) for form in FORMATS if form.with_head and form.names(CLASS_TOKEN)[0] in stored), None
    )
    return {name: item for name, item in stored.items() if names is None or name in names}


def refuse_attention_pooling(names: Iterable[str], source: Path) -> None:
    """Raise InputError for an attention-pooling head, whose answers a Linear would not give."""
    if found := [name for name in names if name.startswith("attn_pool.")]:
        raise InputError(
            f"{source} holds {found[0]}, of an attention-pooling head, which is not supported: give weights without it, and a head of "
            "one Linear (with a BatchNorm before it or not)."
        )


def _kind(content: Config | None) -> str:
    """What a config.json without the network's keys is of, and what to do."""
    if content is None:
        return "there is no config.json: give the weights of an InternViT, such as OpenGVLab/InternViT-6B-224px"
    if "vision_config" in content:
        return f"config.json is a chat model's ({bare(content.get('model_type'))}): give the chat model's own folder, with its own weights"
    if "architecture" in content:
        return f"config.json is timm's, of {bare(content['architecture'])}: of timm's models only vit_intern300m_patch14_448 is an InternViT"
    kind = f"of model_type {shown(content['model_type'])}" if "model_type" in content else "of an unknown model"
    return f"config.json is {kind}: give the folder of an InternViT, such as OpenGVLab/InternViT-6B-224px"


REQUIRED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size")
"""Keys that every config.json of an InternViT has; another one that is missing has the published network's value.

Keys for training alone are ignored: dropout, attention_dropout and drop_path_rate, which are the identity in inference, and
initializer_factor, initializer_range and layer_scale_init_value, since every tensor comes from a file.
"""


def _is_intern300m(architecture: object) -> bool:
    return isinstance(architecture, str) and architecture.startswith("vit_intern300m")


def config_in(form: Format, content: Config | None, source: Path) -> InternViTConfig | None:
    """The network that a config.json describes; None where it follows from the shapes of the tensors.

    Raises InputError for a config.json of something else, and for one that asks for what this network does not compute.
    """
    if content is None or (form.config is None and _is_intern300m(content[form.mark])):
        return None
    keys = form.config(content) if form.config else {}
    if missing := [name for name in REQUIRED if name not in keys]:
        raise InputError(
            f"{source} cannot be read as an InternViT: config.json has no {', '.join(missing)}, and {_kind(content)}."
        )
    if (activation := keys.get("hidden_act", "gelu")) != "gelu":
        raise InputError(
            f"config.json of {source}: hidden_act is {shown(activation)}, and this network computes 'gelu' only (the exact one): "
            "its answers would be wrong, so give a model with 'gelu'."
        )
    return InternViTConfig(**{field.name: keys[field.name] for field in fields(InternViTConfig) if field.name in keys})


def config_of(form: Format, shapes: Mapping[str, tuple[int, ...]], source: Path) -> InternViTConfig:
    """The network that tensors of these shapes (by stored name) are for.

    Shapes do not give the number of attention heads: it is that of the published network of the same width.
    Raises InputError where there is none.
    """

    def shape(published: str) -> tuple[int, ...] | None:
        return shapes.get(form.names(published)[0])

    first = "encoder.layers.0."
    patches, positions, inner = (
        shape(name) for name in ("embeddings.patch_embedding.weight", POSITIONS, f"{first}mlp.fc1.weight")
    )
    heads = {known.hidden_size: known.num_attention_heads for known in SHAPES.values()}
    if (
        not patches
        or len(patches) != 4
        or not positions
        or len(positions) != 3
        or isqrt(max(positions[1] - 1, 0)) ** 2 != positions[1] - 1
        or not inner
        or patches[0] not in heads
    ):
        raise InputError(
            f"{source} holds no InternViT of a published width ({', '.join(map(str, heads))}), so its config does not follow from "
            "its tensors: put its config.json beside it."
        )
    return InternViTConfig(
        hidden_size=patches[0],
        num_hidden_layers=next(number for number in count() if not shape(f"encoder.layers.{number}.ls1")),
        num_attention_heads=heads[patches[0]],
        intermediate_size=inner[0],
        image_size=patches[2] * isqrt(positions[1] - 1),
        patch_size=patches[2],
        num_channels=patches[1],
        norm_type="layer_norm" if shape(f"{first}norm1.bias") else "rms_norm",
        qk_normalization=shape(f"{first}attn.q_norm.weight") is not None,
        qkv_bias=shape(f"{first}attn.qkv.bias") is not None,
    )
