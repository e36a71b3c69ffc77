"""Which fused kernels are trusted on this device: each is compared with the plain kernel in a wider dtype before it is used.

A kernel that fails or disagrees is refused, with its error, and the plain one is used.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ivit_helpers.device.cpu import host
from ivit_helpers.device.device import Device
from ivit_helpers.model.kernels import PLAIN, Kernels, fused, plain_gelu
from ivit_helpers.model.network import InternViTConfig
from ivit_helpers.model.rounding import ALLOWED_MULTIPLE, FLOOR, reference_dtype, relative_error

Arguments = tuple[Any, ...]
SLOTS = ("rms_norm", "gelu", "attention", "add_scaled", "mlp")


@dataclass(frozen=True)
class KernelVerdict:
    """One fused kernel on one device."""

    kernel: str
    refused: str = ""
    """Why the plain kernel is used instead; empty when the fused one may be"""
    error: float | None = None
    """Relative error against the plain kernel in a wider dtype, on the inputs where it is largest"""
    allowed: float | None = None
    instead_of: str = ""
    """Why the device's first choice was refused, where this is about its second; else empty"""

    def __str__(self) -> str:
        measured = "" if self.error is None else f"relative error {self.error:.1e}, limit {self.allowed:.1e}"
        instead = f"the first choice was refused ({self.instead_of}), the second is used" if self.instead_of else ""
        return "; ".join(filter(None, [self.refused, measured, instead]))


def _inputs(config: InternViTConfig, wanted: Collection[str]) -> dict[str, list[Arguments]]:
    """Float32 arguments of one image's size for each wanted kernel, on the CPU; always the same."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    tokens, width, inner, heads = (
        config.tokens,
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads,
    )
    found: dict[str, list[Arguments]] = {
        "rms_norm": [(normal(1, tokens, width), 1 + 0.1 * normal(width), config.layer_norm_eps)],
        # The tanh form differs from the exact one most, relative to its size, where the answer is small: that part on its own.
        "gelu": [(normal(1, tokens, width),), (torch.linspace(-4, -1.5, 4096),)],
        "attention": [tuple(normal(1, heads, tokens, width // heads) for _ in range(3))],
        # Layer scales are small; one of another size, or none, is seen only where update and residual are of one size.
        "add_scaled": [(normal(1, tokens, width), normal(1, tokens, width), normal(width))],
    }
    if "mlp" in wanted:  # half a gigabyte for the 6B network
        found["mlp"] = _mlp_inputs(normal, width, inner)
    return {name: samples for name, samples in found.items() if name in wanted}


def _mlp_inputs(normal: Callable[..., Tensor], width: int, inner: int) -> list[Arguments]:
    """A few random tokens, for a whole image would take a CPU a minute; and one token whose answer is decided by the GELU alone.

    There it sees -4 to -2.5, where the tanh form is off by 6 % in all and rounding to bfloat16 by 0.2 %. The first product is exact in
    every dtype, of one input that is 1, so that no rounding before the GELU hides the difference.
    """
    weight2 = inner**-0.5 * normal(width, inner)
    weights = (width**-0.5 * normal(inner, width), normal(inner), weight2, normal(width))
    one, weight1 = torch.zeros(1, 1, width), torch.zeros(inner, width)
    one[..., 0], weight1[:, 0] = 1, torch.linspace(-4, -2.5, inner)
    return [
        (normal(1, 16, width), *weights, plain_gelu),
        (one, weight1, torch.zeros(inner), weight2, torch.zeros(width), plain_gelu),
    ]


def _converted(arguments: Arguments, device: torch.device, dtype: torch.dtype) -> Arguments:
    return tuple(item.to(dtype).to(device) if isinstance(item, Tensor) else item for item in arguments)


def _errors(
    kernel: Callable[..., Tensor], plain: Callable[..., Tensor], given: Arguments, device: Device, dtype: torch.dtype
) -> tuple[float, float]:
    """Relative errors of a kernel on its device and of the plain one on the CPU, from the same rounded arguments."""
    cpu = host()
    rounded = _converted(given, cpu.torch_device, dtype)
    with cpu.inference():
        exact = plain(*_converted(rounded, cpu.torch_device, reference_dtype(dtype)))
        usual = relative_error(plain(*rounded), exact)
    with device.inference():
        found = kernel(*_converted(given, device.torch_device, dtype)).cpu()
    return relative_error(found, exact), usual


def _judge(
    name: str, kernel: Callable[..., Tensor], samples: Sequence[Arguments], device: Device, dtype: torch.dtype
) -> KernelVerdict:
    plain = getattr(PLAIN, name)
    worst = KernelVerdict(name, error=0.0, allowed=0.0)
    for given in samples:
        try:
            error, usual = _errors(kernel, plain, given, device, dtype)
        except (
            RuntimeError,
            NotImplementedError,
            AttributeError,
        ) as problem:  # refused by the device, or not in this torch-npu
            return KernelVerdict(name, f"refused by the device: {device.explain(problem)}")
        allowed = max(ALLOWED_MULTIPLE[dtype] * usual, FLOOR)
        if not error <= allowed:
            return KernelVerdict(name, "its numbers are wrong", error, allowed)
        if error >= (worst.error or 0):
            worst = KernelVerdict(name, error=error, allowed=allowed)
    return worst


def trusted_kernels(
    config: InternViTConfig, device: Device, dtype: torch.dtype
) -> tuple[Kernels, tuple[KernelVerdict, ...]]:
    """The device's fused kernels, with another one or the plain one in place of each that is refused, and the verdict on each."""
    kernels, others = fused(device), device.other_operators()
    verdicts: list[KernelVerdict] = []
    wanted = [
        name for name in SLOTS if getattr(kernels, name) is not getattr(PLAIN, name)
    ]  # the others have no fused form here
    for name, samples in _inputs(config, wanted).items():
        verdict = _judge(name, getattr(kernels, name), samples, device, dtype)
        if verdict.refused and name in others:
            other = _judge(name, others[name], samples, device, dtype)
            if not other.refused:
                given: dict[str, Any] = {name: others[name]}
                kernels, verdict = replace(kernels, **given), replace(other, instead_of=str(verdict))
        verdicts.append(verdict)
    refused = [verdict.kernel for verdict in verdicts if verdict.refused]
    name = f"fused, but plain {', '.join(refused)}" if refused else kernels.name
    return replace(kernels, name=name, **{kernel: getattr(PLAIN, kernel) for kernel in refused}), tuple(verdicts)
