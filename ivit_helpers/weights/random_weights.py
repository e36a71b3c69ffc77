"""Weights out of nothing: seeded, of the right shapes, under which a network computes something sensible."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from tqdm import tqdm

from ivit_helpers.device import Device


def random_tensor(name: str, like: Tensor, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """A tensor of that name and shape, on the generator's device.

    Activations keep their size under such weights and no two tensors are alike, so that a mix-up of tensors shows.
    """
    centre, spread = 0.0, 0.02
    if name.endswith(("ls1", "ls2")):
        centre = 0.1
    elif "norm" in name and name.endswith("weight"):
        centre, spread = 1.0, 0.1
    elif name.endswith("weight"):
        spread = math.prod(like.shape[1:]) ** -0.5
    return torch.empty(like.shape, dtype=dtype, device=generator.device).normal_(centre, spread, generator=generator)


def random_weights(name: str, expected: Mapping[str, Tensor], device: Device, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of a network, made on the device; always the same on devices of one kind."""
    generator = torch.Generator(device.torch_device).manual_seed(0)
    names = tqdm(expected, desc=f"making {name}", unit="tensor", leave=False, delay=1)
    return {key: random_tensor(key, expected[key], generator, dtype) for key in names}
