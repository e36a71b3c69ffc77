"""NVIDIA cards."""

from collections.abc import Mapping
from types import ModuleType
from typing import ClassVar

import torch

from ivit_helpers.device.device import Device


class CUDA(Device):
    """One NVIDIA card."""

    kind = "cuda"
    # Data sheets, without sparsity.
    peaks: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "A100": {"data sheet": 312.0},
        "H100 PCIe": {"data sheet": 756.0},
        "H100": {"data sheet": 989.4},
        "H200": {"data sheet": 989.4},
    }
    variables = ("CUDA_LAUNCH_BLOCKING", "CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF")
    blocking_variable = "CUDA_LAUNCH_BLOCKING"

    @classmethod
    def is_installed(cls) -> bool:
        return bool(torch.backends.cuda.is_built())

    @classmethod
    def why_absent(cls) -> str:
        return "" if torch.cuda.is_available() else "torch finds no CUDA device: check `nvidia-smi` and that torch is a CUDA build."

    @classmethod
    def compute_exactly(cls, module: ModuleType) -> None:
        torch.backends.cudnn.allow_tf32 = False  # rounds the inputs of float32 convolutions by default
