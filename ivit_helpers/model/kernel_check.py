"""Each fused kernel is compared with the plain one in a wider dtype before it is used.

One that fails or disagrees is refused, with its error, and the plain one is used in its place.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ivit_helpers.device.cpu import host
from ivit_helpers.device.device import Device
from ivit_helpers.model.kernels import ALLOWED_MULTIPLE, FLOOR, PLAIN, Kernels, fused, reference_dtype, relative_error
from ivit_helpers.model.network import InternViTConfig


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


def _inputs(config: InternViTConfig, wanted: Collection[str]) -> dict[str, list[tuple[Any, ...]]]:
    """Float32 arguments of one image's size for each wanted kernel, on the CPU; always the same."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    tokens, width, heads = config.tokens, config.hidden_size, config.num_attention_heads
    samples: dict[str, list[tuple[Any, ...]]] = {
        "rms_norm": [(normal(1, tokens, width), 1 + 0.1 * normal(width), config.layer_norm_eps)],
        # Relative to its size, the tanh form differs from the exact one most where the answer is small.
        "gelu": [(normal(1, tokens, width),), (torch.linspace(-4, -1.5, 4096),)],
        "attention": [tuple(normal(1, heads, tokens, width // heads) for _ in range(3))],
        # Layer scales are small; a wrong one is seen only where update and residual are of one size.
        "add_scaled": [(normal(1, tokens, width), normal(1, tokens, width), normal(width))],
    }
    if "mlp" in wanted:
        # A few random tokens, because a whole image would take a CPU a minute. And one token whose answer the GELU
        # alone decides: its first product is exact in every dtype, and gives -4 to -2.5, where tanh is off by 6 %.
        inner = config.intermediate_size
        weight2 = inner**-0.5 * normal(width, inner)
        weights = (width**-0.5 * normal(inner, width), normal(inner), weight2, normal(width))
        token, weight1 = torch.zeros(1, 1, width), torch.zeros(inner, width)
        token[..., 0], weight1[:, 0] = 1, torch.linspace(-4, -2.5, inner)
        samples["mlp"] = [
            (normal(1, 16, width), *weights, PLAIN.gelu),
            (token, weight1, torch.zeros(inner), weight2, torch.zeros(width), PLAIN.gelu),
        ]
    return {name: samples[name] for name in wanted}


def _judge(
    name: str, kernel: Callable[..., Tensor], samples: Sequence[tuple[Any, ...]], device: Device, dtype: torch.dtype
) -> KernelVerdict:
    """Compare a kernel on its device with the plain one on the CPU, from the same rounded arguments."""
    plain, cpu = getattr(PLAIN, name), host()

    def converted(sample: Sequence[Any], where: torch.device, to: torch.dtype) -> list[Any]:
        return [item.to(to).to(where) if isinstance(item, Tensor) else item for item in sample]

    worst = KernelVerdict(name, error=0.0, allowed=0.0)
    for sample in samples:
        rounded = converted(sample, cpu.torch_device, dtype)
        with cpu.inference():
            exact = plain(*converted(rounded, cpu.torch_device, reference_dtype(dtype)))
            usual = relative_error(plain(*rounded), exact)
        try:
            with device.inference():
                error = relative_error(kernel(*converted(sample, device.torch_device, dtype)).cpu(), exact)
        except (RuntimeError, NotImplementedError, AttributeError) as problem:  # not on this card or in its software
            return KernelVerdict(name, f"refused by the device: {device.explain(problem)}")
        allowed = max(ALLOWED_MULTIPLE[dtype] * usual, FLOOR)
        if not error <= allowed:  # nan is refused, too
            return KernelVerdict(name, "its numbers are wrong", error, allowed)
        if error >= (worst.error or 0):
            worst = KernelVerdict(name, error=error, allowed=allowed)
    return worst


def trusted_kernels(
    config: InternViTConfig, device: Device, dtype: torch.dtype
) -> tuple[Kernels, tuple[KernelVerdict, ...]]:
    """The device's fused kernels, with another or the plain one in place of each refused one; the verdict on each."""
    kernels, others = fused(device), device.other_operators()
    slots = [field.name for field in fields(Kernels) if field.name != "name"]
    wanted = [slot for slot in slots if getattr(kernels, slot) is not getattr(PLAIN, slot)]
    verdicts = []
    for slot, samples in _inputs(config, wanted).items():
        verdict = _judge(slot, getattr(kernels, slot), samples, device, dtype)
        if verdict.refused and slot in others:
            second = _judge(slot, others[slot], samples, device, dtype)
            if not second.refused:
                kernels = replace(kernels, **{slot: others[slot]})  # type: ignore[arg-type]  # its name is not a slot
                verdict = replace(second, instead_of=str(verdict))
        verdicts.append(verdict)
    refused = [verdict.kernel for verdict in verdicts if verdict.refused]
    name = f"fused, but plain {', '.join(refused)}" if refused else kernels.name
    return replace(kernels, name=name, **{slot: getattr(PLAIN, slot) for slot in refused}), tuple(verdicts)
