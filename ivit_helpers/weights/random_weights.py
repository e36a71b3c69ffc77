"""Weights out of nothing: seeded, of the right shapes, under which a network computes something sensible."""

import functools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ivit_helpers.device.device import Device
from ivit_helpers.record.progress import Progress

POOL = 16_777_259
"""Normal numbers that all tensors are cut from: a prime, so that neither rows nor columns of a matrix repeat"""
STRIDE = 6_700_417
"""Between the beginnings of two tensors in the pool: another prime, so that no two of a network's tensors begin at the same place"""


@functools.cache
def normal_pool() -> Tensor:
    """POOL normal numbers in float32 on the CPU, always the same."""
    return torch.empty(POOL).normal_(generator=torch.Generator().manual_seed(0))


def random_tensor(name: str, shape: Sequence[int], number: int, pool: Tensor) -> Tensor:
    """A tensor of that name and shape, with the dtype and on the device of `pool`, a copy of `normal_pool()`.

    number: another tensor for each. Activations keep their size under such weights and no two tensors are alike, so that a mix-up of
    tensors shows. The numbers are the same on every device. They are scaled copies out of the pool because drawing 5.9 billion numbers
    takes 40 s on a core, and copying them takes one.
    """
    centre, spread = 0.0, 0.02
    if name.endswith(("ls1", "ls2")):
        centre = 0.1
    elif "norm" in name and name.endswith("weight"):
        centre, spread = 1.0, 0.1
    elif name.endswith("weight"):
        spread = math.prod(shape[1:]) ** -0.5
    tensor = torch.empty(tuple(shape), dtype=pool.dtype, device=pool.device)
    rest, begin = tensor.view(-1), number * STRIDE % POOL
    while len(rest):
        part = pool[begin : begin + len(rest)]
        torch.mul(part, spread, out=rest[: len(part)])
        rest, begin = rest[len(part) :], 0
    return tensor.add_(centre) if centre else tensor


def random_weights(name: str, expected: Mapping[str, Tensor], device: Device, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of a network, made on the device; the same on every device."""
    pool = normal_pool().to(device.torch_device, dtype)
    names = Progress(expected, desc=f"making {name}", unit="tensor")
    return {key: random_tensor(key, expected[key].shape, number, pool) for number, key in enumerate(names)}
