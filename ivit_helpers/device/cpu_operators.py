"""What a CPU computes faster in another way than by torch's own operator of that name.

The norm: torch has no kernel for it here, `F.rms_norm` is six passes over the tokens, most of them in float32. It has one for a batch
norm by given statistics, which is the same arithmetic where every token is a channel and its mean is zero: four passes in all.

The MLP: oneDNN adds the bias and applies the GELU while a product's result is still in registers. torch's own linear fills the result
with the bias first, and a GELU after it reads and writes the widest tensor of the block once more.

A compiler is given torch's own operators: it fuses those, and cannot look into these.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ivit_helpers.device.device import three_launches, torch_rms_norm

LOW_PRECISION = frozenset({torch.bfloat16, torch.float16})


def multiplies_natively(dtype: torch.dtype) -> bool:
    """Whether this CPU has matrix instructions for a dtype; it may lack the 16-bit ones."""
    if dtype not in LOW_PRECISION:
        return True
    supported = "_is_mkldnn_bf16_supported" if dtype == torch.bfloat16 else "_is_mkldnn_fp16_supported"
    return bool(getattr(torch.ops.mkldnn, supported)())


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root mean square norm: (..., C) input, (C,) weight -> (..., C); squares, sum and division in float32."""
    if (
        torch.compiler.is_compiling() or x.dtype not in LOW_PRECISION
    ):  # in float32 this is hardly faster, and the root costs accuracy
        return torch_rms_norm(x, weight, epsilon)
    width = x.shape[-1]
    rows = x.reshape(
        -1, width
    ).contiguous()  # queries and keys are columns of a wider tensor, which would cost more than this copy
    square = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float32).square_().div_(width)
    zero = torch.zeros_like(square)
    (normal,) = F.batch_norm(rows[None], zero, square, training=False, eps=epsilon)
    scaled: Tensor = normal.mul_(weight)
    return scaled.view(x.shape)


def mlp(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, gelu: Callable[[Tensor], Tensor]
) -> Tensor:
    """Two linears with the exact GELU between them, in two operators where the CPU multiplies 16 bits; else as `three_launches`."""
    if torch.compiler.is_compiling() or x.dtype not in LOW_PRECISION or not multiplies_natively(x.dtype):
        return three_launches(x, weight1, bias1, weight2, bias2, gelu)
    return _linear(_linear(x, weight1, bias1, "gelu"), weight2, bias2, "none")


def _linear(x: Tensor, weight: Tensor, bias: Tensor, after: str) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], "none")
    return y
