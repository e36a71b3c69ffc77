"""The two linears of a block with the GELU between them as one operator of an Ascend card: torch_npu.npu_ffn.

It calls CANN's aclnnFFN, and three things in CANN's published code (cann/ops-transformer, ffn/ffn) decide how it is called here:
- with bfloat16 the biases must be float32, with float16 they must be float16; float32 it does not take at all;
- it copies a weight that is not contiguous at every call, and it multiplies by (in, out), where a linear stores (out, in);
- its GELU is Ascend C's `Gelu`, which the grouped product in the same repository calls for "GELU_TANH". No document names the form, so
  the numerical check decides: the tanh form is refused. An A3 has no aclnnFFN, and refuses the call.

Verified on the test rig only: neither the form nor the speed on a card is known.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ivit_helpers.device.device import three_launches


class FusedMLP:
    """`npu_ffn` in the 16-bit dtypes, three launches in float32. The arguments are those of `model.Kernels.mlp`."""

    def __init__(self) -> None:
        import torch_npu

        self._ffn = torch_npu.npu_ffn
        self._wide = WeakTensorKeyDictionary()

    def __deepcopy__(self, _memo: dict[int, Any]) -> "FusedMLP":
        return self  # it belongs to the device, as a function does, and not to the block that is copied

    def lay_out(self, linear: nn.Linear) -> None:
        """Store the bytes of an (out, in) weight in the order of its transpose, and cast the bias, so that no call has to.

        Values, shapes and names stay, and linears take either order.
        """
        weight = linear.weight.detach()
        if weight.dtype != torch.float32:
            linear.weight = nn.Parameter(weight.t().contiguous().t(), requires_grad=False)
            self._bias(linear.bias)

    def _bias(self, bias: Tensor) -> Tensor:
        """As aclnnFFN takes it. It is cast once: a cast at every call would be a launch, which is what is to be saved."""
        if bias.dtype != torch.bfloat16:
            return bias
        if torch.compiler.is_compiling():
            return bias.float()
        if bias not in self._wide:
            self._wide[bias] = bias.detach().float()
        wide: Tensor = self._wide[bias]
        return wide

    def __call__(
        self,
        x: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        gelu: Callable[[Tensor], Tensor],
    ) -> Tensor:
        if x.dtype == torch.float32:
            return three_launches(x, weight1, bias1, weight2, bias2, gelu)
        y: Tensor = self._ffn(x, weight1.t(), weight2.t(), "gelu", bias1=self._bias(bias1), bias2=self._bias(bias2))
        return y
