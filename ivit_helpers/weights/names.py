"""The names under which people store InternViT's tensors: three schemes, each under any prefix.

Sources: the published folder; classification/models/intern_vit_6b.py and internvl_chat/ of the OpenGVLab/InternVL
repository; transformers' models/internvl/modeling_internvl.py; timm's models/vision_transformer.py.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import torch
from torch import Tensor

from ivit_helpers.errors import InputError

CLASS_TOKEN, FIRST_BLOCK = "embeddings.class_embedding", "encoder.layers.0.ls1"


@dataclass(frozen=True)
class Naming:
    """How weight files name the network's tensors."""

    scheme: str
    renames: tuple[tuple[str, str], ...] = ()
    """(text in a published name, text in its place), applied in this order"""
    splits_qkv: bool = False
    """Whether the rows for query, key and value are three tensors"""
    prefix: str = ""
    """Before every name of the network; a tensor without it belongs to another part of the model"""

    def names(self, published: str) -> list[str]:
        """The stored names of one published tensor: one, or those of its row thirds in order."""
        stored = self.prefix + reduce(lambda name, pair: name.replace(*pair), self.renames, published)
        if self.splits_qkv and ".qkv." in stored:
            return [stored.replace(".qkv.", f".{part}_proj.") for part in "qkv"]
        return [stored]

    def stored(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by stored name, from those by published name: views, no copies."""
        return {
            part: rows
            for name, tensor in tensors.items()
            for part, rows in zip(self.names(name), tensor.chunk(len(self.names(name))), strict=True)
        }

    def published(self, stored: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
        """Tensors by published name, from those by stored name; only those that are stored in thirds are copied."""
        parts = {name: [stored[part] for part in self.names(name)] for name in names}
        return {name: rows[0] if len(rows) == 1 else torch.cat(rows) for name, rows in parts.items()}


PUBLISHED = Naming("the published folder")
TRANSFORMERS = Naming(
    "transformers",
    (
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
    ),
    splits_qkv=True,
)
AUTHORS = Naming(
    "the authors' own files and timm",
    (
        ("embeddings.class_embedding", "cls_token"),
        ("embeddings.position_embedding", "pos_embed"),
        ("embeddings.patch_embedding.", "patch_embed.proj."),
        ("encoder.layers.", "blocks."),
        (".ls1", ".ls1.gamma"),
        (".ls2", ".ls2.gamma"),
    ),
)
SCHEMES = (PUBLISHED, TRANSFORMERS, AUTHORS)


def naming_of(names: Collection[str], source: Path, hint: str = "") -> Naming:
    """The scheme of these stored names, with the prefix that is before them.

    hint: what else is known of the model, for the error. Raises InputError where the names are of no InternViT, or of
    more than one, and for an attention-pooling head, whose answers a Linear would not give.
    """
    refuse_attention_pooling(names, source)
    known, towers = set(names), []
    for scheme in SCHEMES:
        [token], [block] = scheme.names(CLASS_TOKEN), scheme.names(FIRST_BLOCK)
        for name in known:
            prefix = name.removesuffix(token)
            if name.endswith(token) and (not prefix or prefix.endswith(".")) and prefix + block in known:
                towers.append(replace(scheme, prefix=prefix))
    if not towers:
        schemes = ", ".join(scheme.scheme for scheme in SCHEMES)
        raise InputError(
            f"{source} holds no InternViT: its tensors ({', '.join(list(names)[:3])}, ...) are named neither as in "
            f"{schemes}{', and ' + hint if hint else ''}."
        )
    if len(towers) > 1:
        raise InputError(
            f"{source} holds {len(towers)} InternViTs, under {', '.join(sorted(one.prefix for one in towers))}: give a "
            "file with one of them."
        )
    return towers[0]


def head_names(names: Collection[str], naming: Naming) -> set[str]:
    """Those of the stored names that are a classification head beside the network of the authors or of timm.

    They are `head.*`, and `norm.*` where it is a BatchNorm; any other `norm.*` is a norm after the last block, which
    InternViT does not have.
    """
    own = {name for name in names if name.startswith(f"{naming.prefix}head.")}
    if naming.scheme != AUTHORS.scheme or f"{naming.prefix}head.weight" not in own:
        return set()
    norm = {name for name in names if name.startswith(f"{naming.prefix}norm.")}
    return own | norm if f"{naming.prefix}norm.running_var" in norm else own


def ignored_names(names: Iterable[str], naming: Naming) -> set[str]:
    """Those of the stored names that are InternVL's contrastive projector, which is in some of the authors' files."""
    if naming.scheme != AUTHORS.scheme:
        return set()
    return {name for name in names if name.startswith(f"{naming.prefix}clip_projector.")}


def refuse_attention_pooling(names: Iterable[str], source: Path) -> None:
    """Raise InputError for the tensors of an attention-pooling head."""
    if pooling := next((name for name in names if name.startswith("attn_pool.")), None):
        raise InputError(
            f"{source} holds {pooling}, of an attention-pooling head, which is not supported: give weights without it, "
            "and a head of one Linear (with a BatchNorm before it or not)."
        )
