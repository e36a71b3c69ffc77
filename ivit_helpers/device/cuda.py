"""NVIDIA cards."""

import os
import subprocess
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
    graph_class = "CUDAGraph"

    @classmethod
    def is_installed(cls) -> bool:
        return bool(torch.backends.cuda.is_built())

    @classmethod
    def why_absent(cls) -> str:
        return "" if torch.cuda.is_available() else "torch finds no CUDA device: check `nvidia-smi` and that torch is a CUDA build."

    def other_processes(self) -> list[str] | None:
        """From nvidia-smi, which lists processes of this container only."""
        asked = ["--id", str(self.torch_device.index or 0), "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"]
        try:
            done = subprocess.run(["nvidia-smi", *asked], capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode:
            return None
        listed = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        return [line for line in listed if line.partition(",")[0] != str(os.getpid())]

    @classmethod
    def compute_exactly(cls, module: ModuleType) -> None:
        torch.backends.cudnn.allow_tf32 = False  # rounds the inputs of float32 convolutions by default
