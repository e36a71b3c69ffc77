"""RMSNorm, GELU and attention: the plain form of each, and the fused operator of each device.

Every function takes and returns tensors of one dtype on one device. Shapes: B images, H heads, N tokens, D channels a head.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Kernels:
    """One way to compute the three operations of a block that devices fuse."""

    name: str
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    """(..., C) input, (C,) weight, epsilon -> (..., C)"""
    gelu: Callable[[Tensor], Tensor]
    """The exact (erf) form, elementwise"""
    attention: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Queries, keys, values, each (B, H, N, D) -> (B, H, N, D); softmax over all tokens, scale D ** -0.5, no mask"""


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


def fused_rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """torch's fused RMSNorm."""
    return F.rms_norm(x, (x.shape[-1],), weight, epsilon)


def fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's scaled dot product attention, which each device backs with its own flash attention."""
    return F.scaled_dot_product_attention(q, k, v)


PLAIN = Kernels("plain", plain_rms_norm, plain_gelu, plain_attention)
FUSED = Kernels("fused", fused_rms_norm, F.gelu, fused_attention)


def _fused_on_npu() -> Kernels:
    import torch_npu

    def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        normed: Tensor = torch_npu.npu_rms_norm(x, weight, epsilon)[0]
        return normed

    def gelu(x: Tensor) -> Tensor:
        # F.gelu computes the tanh form on this device, whatever its argument says.
        exact: Tensor = torch_npu.npu_gelu(x, approximate="none")
        return exact

    return Kernels("fused", rms_norm, gelu, fused_attention)


def fused(device_type: str) -> Kernels:
    """The fused kernels of a device type ("npu", "cuda", "cpu")."""
    return _fused_on_npu() if device_type == "npu" else FUSED


_PRODUCTS = frozenset({F.linear, F.conv2d, F.scaled_dot_product_attention, torch.matmul, torch.bmm, Tensor.matmul, Tensor.__matmul__})
_LOW_PRECISION = frozenset({torch.bfloat16, torch.float16})


class WideProductsOnCPU(TorchFunctionMode):
    """Compute matrix products of 16-bit CPU tensors in float32 and round the result once.

    A CPU without 16-bit matrix instructions multiplies bfloat16 a few hundred times slower than float32 in torch. Products of
    16-bit numbers are exact in float32 and accelerators accumulate in float32 too, so the answer is the same kind of answer.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _PRODUCTS or args[0].dtype not in _LOW_PRECISION or args[0].device.type != "cpu":
            return func(*args, **kwargs)

        def wide(value: Any) -> Any:
            return value.float() if isinstance(value, Tensor) and value.dtype in _LOW_PRECISION else value

        result = func(*map(wide, args), **{name: wide(value) for name, value in kwargs.items()})
        return result.to(args[0].dtype)


def multiplies_natively(device_type: str, dtype: torch.dtype) -> bool:
    """Whether this device has matrix instructions for a dtype; only CPUs may lack the 16-bit ones."""
    if device_type != "cpu" or dtype not in _LOW_PRECISION:
        return True
    supported = "_is_mkldnn_bf16_supported" if dtype == torch.bfloat16 else "_is_mkldnn_fp16_supported"
    return bool(getattr(torch.ops.mkldnn, supported)())
