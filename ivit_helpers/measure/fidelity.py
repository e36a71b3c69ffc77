"""Are the numbers right? The error against a reference on the CPU, beside the error of transformers' own implementation.

The reference is this network in float32 for 16-bit runs and in float64 for float32 runs, so that rounding shows on both sides of a
comparison. It is computed block by block, with one block's weights upcast at a time, so a 6B network needs 0.5 GB for it (1 GB in
float64). transformers' InternVLVisionModel is the independent peer: other code, the same tensors.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ivit_helpers.device.cpu import host
from ivit_helpers.device.device import Device, dtype_name
from ivit_helpers.measure.peer import peer_part
from ivit_helpers.model.kernels import ALLOWED_MULTIPLE, FLOOR, PLAIN, reference_dtype, relative_error
from ivit_helpers.model.network import Block, Embeddings, InternViT
from ivit_helpers.record.progress import Progress


def _on_cpu(module: nn.Module, empty: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A CPU copy of a module in another dtype, over plain kernels; `empty` is the same module on the meta device."""
    tensors = {name: tensor.to("cpu").to(dtype) for name, tensor in module.state_dict().items()}
    empty.load_state_dict(tensors, strict=True, assign=True)
    return empty.eval().requires_grad_(False)


def _embeddings(network: InternViT, dtype: torch.dtype) -> nn.Module:
    with torch.device("meta"):
        empty = Embeddings(network.config)
    return _on_cpu(network.embeddings, empty, dtype)


def _blocks(network: InternViT, dtype: torch.dtype) -> Iterator[nn.Module]:
    for layer in network.encoder.layers:
        with torch.device("meta"):
            empty = Block(network.config, PLAIN)
        yield _on_cpu(layer, empty, dtype)


@dataclass(frozen=True)
class Agreement:
    """The error of one implementation, beside transformers' own error in the same dtype."""

    error: float
    peer_error: float
    dtype: torch.dtype

    @property
    def multiple(self) -> float:
        """What multiple of the peer's error is accepted."""
        return ALLOWED_MULTIPLE[self.dtype]

    @property
    def passed(self) -> bool:
        """Never true for nan."""
        return self.error <= self.multiple * self.peer_error

    def __str__(self) -> str:
        return (
            f"relative error {self.error:.2e} against a {dtype_name(reference_dtype(self.dtype))} reference; transformers on the CPU "
            f"has {self.peer_error:.2e}, and up to {self.multiple:g} times that is accepted"
        )


@dataclass(frozen=True)
class ReferenceStates:
    """Hidden states of one image after the embeddings and after every block, on the CPU: L + 1 tensors (1, N, C)."""

    exact: tuple[Tensor, ...]
    """In `reference_dtype(dtype)`"""
    peer: tuple[Tensor, ...]
    """As transformers computes them in the dtype under test"""
    dtype: torch.dtype

    def agreement(self, last_hidden_state: Tensor) -> Agreement:
        """Compare an implementation's last hidden state (1, N, C) of the same image."""
        found = relative_error(last_hidden_state.detach().cpu(), self.exact[-1])
        return Agreement(found, relative_error(self.peer[-1], self.exact[-1]), self.dtype)


def reference_states(network: InternViT, pixel_values: Tensor, dtype: torch.dtype) -> ReferenceStates:
    """Compute the reference, and transformers' own rounding beside it, from the weights as the device holds them.

    pixel_values: (1, 3, height, width), any device.
    """
    pixels, wide = pixel_values.cpu().float(), reference_dtype(dtype)
    with host().inference():
        rounded_embeddings = peer_part(
            "InternVLVisionEmbeddings", _embeddings(network, dtype), "embeddings", network.config
        )
        exact = [_embeddings(network, wide)(pixels)]
        other = [rounded_embeddings(pixels.to(dtype))]
        progress = Progress(
            zip(_blocks(network, wide), _blocks(network, dtype), strict=True),
            total=network.config.num_hidden_layers, desc="reference on the CPU", unit="block",
        )  # fmt: skip
        for wide_block, rounded_block in progress:
            exact.append(wide_block(exact[-1]))
            other.append(peer_part("InternVLVisionLayer", rounded_block, "encoder.layers.0", network.config)(other[-1]))
    return ReferenceStates(tuple(exact), tuple(other), dtype)


def hidden_states(network: InternViT, pixel_values: Tensor, device: Device) -> tuple[Tensor, ...]:
    """The same states from the network on its device, copied to the CPU."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        kept.append(output.detach().cpu())

    hooks = [module.register_forward_hook(keep) for module in (network.embeddings, *network.encoder.layers)]
    try:
        with device.inference():
            network(pixel_values.to(device.torch_device))
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(kept)


@dataclass(frozen=True)
class BlockError:
    """Error of one block's update (output minus input) in float32 on its device, against the reference's update from the same input."""

    error: float
    peer_error: float
    """Of transformers' block on the CPU"""
    carried: float
    """RMS(input) / RMS(update). The output is input + update, and its rounding grows with the input: a large ratio allows a larger error"""

    @property
    def allowed(self) -> float:
        rounding = FLOOR + 2 * torch.finfo(torch.float32).eps * self.carried
        return max(rounding, ALLOWED_MULTIPLE[torch.float32] * self.peer_error)

    @property
    def share(self) -> float:
        """The error in units of what is accepted; infinite for nan."""
        return self.error / self.allowed if math.isfinite(self.error) else math.inf

    @property
    def passed(self) -> bool:
        return self.share <= 1


def _widened(layer: nn.Module, plain: Sequence[str]) -> nn.Module:
    """A copy in float32, on its device, with its own kernels except the ones named."""
    copied = copy.deepcopy(layer).float()
    for module in copied.modules():
        if hasattr(module, "kernels"):
            module.kernels = replace(module.kernels, **{name: getattr(PLAIN, name) for name in plain})  # type: ignore[type-var]
    return copied


def block_errors(
    network: InternViT, expected: ReferenceStates, device: Device, plain: Sequence[str] = ()
) -> tuple[BlockError, ...]:
    """Compute each block alone in float32: the network's own modules and kernels, with the weights of one block widened at a time.

    In a whole pass the rounding of a 16-bit dtype hides small faults (GELU in its approximate form, a norm with another's weight), and
    the rounding of earlier blocks adds up. Neither happens here.
    plain: kernels whose fused form is not trusted in float32. Raises RuntimeError where the device cannot compute a block in float32.
    """
    found = []
    progress = Progress(
        zip(network.encoder.layers, _blocks(network, torch.float32), expected.exact, expected.exact[1:], strict=False),
        total=network.config.num_hidden_layers, desc="each block in float32", unit="block",
    )  # fmt: skip
    for layer, same, before, after in progress:
        given, update = before.float(), after - before
        with device.inference():
            ours = _widened(layer, plain)(given.to(device.torch_device)).cpu()
        with host().inference():
            theirs = peer_part("InternVLVisionLayer", same, "encoder.layers.0", network.config)(given)
            error, peer_error = (relative_error(state.to(update.dtype) - before, update) for state in (ours, theirs))
        found.append(BlockError(error, peer_error, carried=float(before.norm() / update.norm())))
    return tuple(found)
