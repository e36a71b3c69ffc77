"""Is the answer right? Against a wider truth on the CPU, and beside transformers' own implementation.

The truth is float32 for 16-bit runs and float64 for float32 runs, so that rounding shows on both sides of a comparison. It is
computed block by block, one block's weights upcast at a time, so a 6B network needs 0.5 GB for it (1 GB in float64).
transformers' InternVLVisionModel is the independent peer: other code, the same tensors.
"""

import copy
import functools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ivit_helpers.device import Device, dtype_name
from ivit_helpers.kernels import PLAIN
from ivit_helpers.network import Block, Embeddings, InternViT, InternViTConfig

if TYPE_CHECKING:
    from transformers import InternVLVisionConfig

# Rounding differs from one correct implementation to the next; an error of kind (a wrong norm, a lost scale) is far beyond this.
# torchbench accepts the same multiples of a reference implementation's error.
ALLOWED_MULTIPLE = {torch.float32: 2.0, torch.bfloat16: 3.0, torch.float16: 3.0}
CPU = Device(torch.device("cpu"), "reference")
"""Where every truth is computed"""


def _transformers() -> ModuleType:
    """transformers' module of the peer; imported late, it takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its progress bars look for notebook widgets when they are imported
        from transformers.models.internvl import modeling_internvl
    return modeling_internvl


def _peer_config(config: InternViTConfig) -> "InternVLVisionConfig":
    config_class: type[InternVLVisionConfig] = _transformers().InternVLVisionConfig

    return config_class(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        image_size=[config.image_size, config.image_size],
        patch_size=[config.patch_size, config.patch_size],
        num_channels=config.num_channels,
        attention_bias=config.qkv_bias,
        use_qk_norm=config.qk_normalization,
        norm_type=config.norm_type,
        layer_norm_eps=config.layer_norm_eps,
        layer_scale_init_value=0.1,
        use_mean_pooling=True,  # False would add a final norm that the published model does not have
        attn_implementation="sdpa",  # type: ignore[call-arg]  # taken by every transformers config
    )


class Peer(nn.Module):
    """transformers' InternVLVisionModel over a network's own tensors (views, no copy): pixels -> last hidden state (B, N, C)."""

    def __init__(self, network: InternViT) -> None:
        super().__init__()
        with torch.device("meta"):
            model = _transformers().InternVLVisionModel(_peer_config(network.config))
        model.load_state_dict(_renamed(network.state_dict()), strict=True, assign=True)
        self.model = model.eval().requires_grad_(False)
        self.dtype = network.embeddings.class_embedding.dtype

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden: Tensor = self.model(pixel_values.to(self.dtype)).last_hidden_state
        return hidden


_RENAMES = (
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


def _renamed(published: dict[str, Tensor]) -> dict[str, Tensor]:
    tensors = {}
    for name, tensor in published.items():
        theirs = functools.reduce(lambda text, pair: text.replace(*pair), _RENAMES, name)
        if ".qkv." in theirs:
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                tensors[theirs.replace(".qkv.", f".{part}_proj.")] = third
        else:
            tensors[theirs] = tensor
    return tensors


def _peer_part(kind: str, ours: nn.Module, place: str, config: InternViTConfig) -> Callable[[Tensor], Tensor]:
    """One part of transformers' model, of class `kind`, over the tensors of our own part, which lies at `place` in the network."""
    with torch.device("meta"):
        part: nn.Module = getattr(_transformers(), kind)(_peer_config(config))
    tensors = _renamed({f"{place}.{name}": tensor for name, tensor in ours.state_dict().items()})
    theirs = place.replace("layers", "layer")
    part.load_state_dict({name.removeprefix(f"{theirs}."): tensor for name, tensor in tensors.items()}, strict=True, assign=True)
    part.eval()

    def forward(x: Tensor) -> Tensor:
        out = part(x)
        hidden: Tensor = out[0] if isinstance(out, tuple) else out  # which of them return a tuple changed between versions
        return hidden

    return forward


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
class Reference:
    """Hidden states of one image after the embeddings and after every block, on the CPU."""

    truth: tuple[Tensor, ...]
    """L + 1 tensors (1, N, C), in `truth_dtype(dtype)`"""
    peer: tuple[Tensor, ...]
    """As transformers computes them in the dtype under test"""
    dtype: torch.dtype


def truth_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a dtype is held against: the next wider one that the CPU computes fast."""
    return torch.float64 if dtype == torch.float32 else torch.float32


def reference(network: InternViT, pixel_values: Tensor, dtype: torch.dtype) -> Reference:
    """Compute the truth, and transformers' own rounding beside it, from the weights as the device holds them.

    pixel_values: (1, 3, height, width), any device.
    """
    pixels, wide = pixel_values.cpu().float(), truth_dtype(dtype)
    with CPU.inference():
        rounded_embeddings = _peer_part("InternVLVisionEmbeddings", _embeddings(network, dtype), "embeddings", network.config)
        truth = [_embeddings(network, wide)(pixels)]
        other = [rounded_embeddings(pixels.to(dtype))]
        progress = tqdm(
            zip(_blocks(network, wide), _blocks(network, dtype), strict=True),
            total=network.config.num_hidden_layers, desc="reference on the CPU", unit="block", leave=False, delay=1,
        )  # fmt: skip
        for exact, rounded in progress:
            truth.append(exact(truth[-1]))
            other.append(_peer_part("InternVLVisionLayer", rounded, "encoder.layers.0", network.config)(other[-1]))
    return Reference(tuple(truth), tuple(other), dtype)


def hidden_states(network: InternViT, pixel_values: Tensor, device: Device) -> tuple[Tensor, ...]:
    """The same from the network on its device: after the embeddings and after every block, copied to the CPU."""
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


def relative_error(found: Tensor, truth: Tensor) -> float:
    """Root mean square error over the root mean square of the truth; nan where `found` is not finite."""
    return float((found.to(truth.dtype) - truth).norm() / truth.norm())


@dataclass(frozen=True)
class Agreement:
    """One implementation's distance from the truth, beside transformers' own distance in the same dtype."""

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
        truth = dtype_name(truth_dtype(self.dtype))
        return (
            f"relative error {self.error:.2e} against {truth}; transformers' on the CPU is {self.peer_error:.2e}, "
            f"up to {self.multiple:g} times that is accepted"
        )


def agreement(last_hidden_state: Tensor, expected: Reference) -> Agreement:
    """Judge a last hidden state (1, N, C) against the reference of the same image."""
    truth = expected.truth[-1]
    found = relative_error(last_hidden_state.detach().cpu(), truth)
    return Agreement(found, relative_error(expected.peer[-1], truth), expected.dtype)


# Float32 kernels approximate erf and sum in other orders, each to about this; a wrong form is off by 1e-4 and more.
FLOOR = 100 * torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Alone:
    """One block in float32 on its device, given the truth's input: how far what it adds to its input is from what the truth adds."""

    error: float
    peer_error: float
    """Of transformers' block on the CPU"""
    carried: float
    """Root mean square of the input over that of what is added: the sum is rounded to the input's last digit"""

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
    """A copy in float32, on its device, with its own kernels but the ones named."""
    copied = copy.deepcopy(layer).float()
    for module in copied.modules():
        if hasattr(module, "kernels"):
            module.kernels = replace(module.kernels, **{name: getattr(PLAIN, name) for name in plain})  # type: ignore[type-var]
    return copied


def blocks_alone(network: InternViT, expected: Reference, device: Device, plain: Sequence[str] = ()) -> tuple[Alone, ...]:
    """Compute each block by itself in float32: the network's own modules and kernels, the weights of one widened at a time.

    The rounding of a 16-bit dtype hides small faults (GELU in its approximate form, a norm with another's weight), and that of all
    the blocks before adds up; neither is here. plain: kernels of which the device's own is not to be trusted in float32.
    Raises RuntimeError where the device cannot compute a block in float32.
    """
    found = []
    progress = tqdm(
        zip(network.encoder.layers, _blocks(network, torch.float32), expected.truth, expected.truth[1:], strict=False),
        total=network.config.num_hidden_layers, desc="each block in float32", unit="block", leave=False, delay=1,
    )  # fmt: skip
    for layer, same, before, after in progress:
        given, added = before.float(), after - before
        with device.inference():
            ours = _widened(layer, plain)(given.to(device.torch_device)).cpu()
        with CPU.inference():
            theirs = _peer_part("InternVLVisionLayer", same, "encoder.layers.0", network.config)(given)
            error, peer_error = (relative_error(state.to(added.dtype) - before, added) for state in (ours, theirs))
        found.append(Alone(error, peer_error, carried=float(before.norm() / added.norm())))
    return tuple(found)
