"""RMSNorm, GELU, attention, scaled residual and MLP: the plain form of each, and the slots that a device's fused operators fill.

Every function takes and returns tensors of one dtype on one device. Shapes: B images, H heads, N tokens, D channels a head.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ivit_helpers.device.device import Device, three_launches


@dataclass(frozen=True)
class Kernels:
    """One way to compute the operations of a block that devices fuse; each is one launch where it is fused."""

    name: str
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    """(..., C) input, (C,) weight, epsilon -> (..., C)"""
    gelu: Callable[[Tensor], Tensor]
    """The exact (erf) form, elementwise"""
    attention: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Queries, keys, values, each (B, H, N, D) -> (B, H, N, D); softmax over all tokens, scale D ** -0.5, no mask"""
    add_scaled: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(B, N, C) residual, (B, N, C) update, (C,) layer scale -> residual + update * scale"""
    mlp: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Callable[[Tensor], Tensor]], Tensor]
    """(..., C) input, (I, C) weight, (I,) bias, (C, I) weight, (C,) bias, the GELU of these kernels -> (..., C). One that is a single
    launch has a GELU of its own, and may have `lay_out(linear)`, which arranges the memory of a linear once, as it reads it"""


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def plain_rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMSNorm as the published model computes it: in float32, cast back, then times the weight."""
    wide = _at_least_float32(x)
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return weight * wide.to(x.dtype)


def plain_gelu(x: Tensor) -> Tensor:
    """GELU by its definition, in float32: right also where a device's own gelu computes the tanh approximation."""
    wide = _at_least_float32(x)
    return (0.5 * wide * (1 + torch.erf(wide / math.sqrt(2)))).to(x.dtype)


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """matmul, softmax, matmul, with the (B, H, N, N) scores in memory: what the published model does without flash-attn."""
    scores: Tensor = (q * float(q.shape[-1]) ** -0.5) @ k.transpose(-2, -1)
    return scores.softmax(dim=-1) @ v


def plain_add_scaled(x: Tensor, update: Tensor, scale: Tensor) -> Tensor:
    """A product and a sum, each rounded: what the published model does."""
    return x + update * scale


PLAIN = Kernels("plain", plain_rms_norm, plain_gelu, plain_attention, plain_add_scaled, three_launches)


def fused(device: Device) -> Kernels:
    """A device's fused operators in their slots; the plain form where it has none."""
    return replace(PLAIN, name="fused", **device.fused_operators())
