"""The operations of a block that devices fuse: their plain form, slots for fused forms, and how far rounding may go.

A kernel takes and returns tensors of one dtype on one device. Shapes: B images, H heads, N tokens, D channels a head.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ivit_helpers.device.device import Device

ALLOWED_MULTIPLE = {torch.float32: 2.0, torch.bfloat16: 3.0, torch.float16: 3.0}
"""How many times a correct implementation's error another's may be; torchbench accepts the same multiples"""
FLOOR = 100 * torch.finfo(torch.float32).eps
"""Relative error that is always accepted: of sums in another order and of erf. A wrong formula costs 1e-4 and more"""


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
    """(..., C) input, (I, C) weight, (I,) bias, (C, I) weight, (C,) bias, the GELU of these kernels -> (..., C)"""


def plain_rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMSNorm as the published model computes it: in float32, cast back, then times the weight."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return weight * wide.to(x.dtype)


def plain_gelu(x: Tensor) -> Tensor:
    """GELU by its definition, in float32: right also where a device's own gelu computes the tanh approximation."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (0.5 * wide * (1 + torch.erf(wide / math.sqrt(2)))).to(x.dtype)


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """matmul, softmax, matmul, with the (B, H, N, N) scores in memory: the published model's without flash-attn."""
    scores: Tensor = (q * float(q.shape[-1]) ** -0.5) @ k.transpose(-2, -1)
    return scores.softmax(dim=-1) @ v


def plain_add_scaled(x: Tensor, update: Tensor, scale: Tensor) -> Tensor:
    """A product and a sum, each rounded: what the published model does."""
    return x + update * scale


def plain_mlp(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, gelu: Callable[[Tensor], Tensor]
) -> Tensor:
    """Two linears with the exact GELU between them, each an operator of its own."""
    return F.linear(gelu(F.linear(x, weight1, bias1)), weight2, bias2)


PLAIN = Kernels("plain", plain_rms_norm, plain_gelu, plain_attention, plain_add_scaled, plain_mlp)


def fused(device: Device) -> Kernels:
    """A device's fused operators in their slots; the plain form where it has none."""
    return replace(PLAIN, name="fused", **device.fused_operators())


def reference_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that a reference is computed in: the next wider one that a CPU computes fast."""
    return torch.float64 if dtype == torch.float32 else torch.float32


def relative_error(result: Tensor, reference: Tensor) -> float:
    """Root mean square of the difference over that of the reference; nan where `result` is not finite."""
    return float((result.to(reference.dtype) - reference).norm() / reference.norm())
