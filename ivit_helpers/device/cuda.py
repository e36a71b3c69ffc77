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
    status_command = "nvidia-smi"
    # Data sheets, without sparsity.
    peaks: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "A100": {"data sheet": 312.0},
        "H100 PCIe": {"data sheet": 756.0},
        "H100": {"data sheet": 989.4},
        "H200": {"data sheet": 989.4},
    }
    bandwidths: ClassVar[Mapping[str, float]] = {
        "A100-SXM4-40GB": 1555.0,
        "A100-PCIE-40GB": 1555.0,
        "A100 80GB PCIe": 1935.0,
        "A100-SXM4-80GB": 2039.0,
        "H100 PCIe": 2000.0,
        "H100": 3350.0,
        "H200": 4800.0,
    }
    variables = ("CUDA_LAUNCH_BLOCKING", "CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF")
    blocking_variable = "CUDA_LAUNCH_BLOCKING"
    graph_class = "CUDAGraph"
    # CUDA's own words for errors that leave a process without its context.
    lost = "uncorrectable ECC error|unspecified launch failure|illegal memory access|hardware stack error|unknown error"

    @classmethod
    def is_installed(cls) -> bool:
        return bool(torch.backends.cuda.is_built())

    @classmethod
    def why_absent(cls) -> str:
        return (
            ""
            if torch.cuda.is_available()
            else "torch finds no CUDA device: check `nvidia-smi` and that torch is a CUDA build."
        )

    def _asked(self, query: str) -> list[str] | None:
        """What nvidia-smi answers of this card, line by line; None where it does not."""
        words = ["nvidia-smi", "--id", str(self.torch_device.index or 0), query, "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return None if done.returncode else [line.strip() for line in done.stdout.splitlines() if line.strip()]

    def power_watts(self) -> float | None:
        try:
            return float((self._asked("--query-gpu=power.draw") or [""])[0])
        except ValueError:
            return None

    def other_processes(self) -> list[str] | None:
        """From nvidia-smi, which lists processes of this container only. Memory is in MiB."""
        listed = self._asked("--query-compute-apps=pid,process_name,used_memory")
        if listed is None:
            return None
        return [line for line in listed if line.partition(",")[0] != str(os.getpid())]

    @classmethod
    def compute_exactly(cls, module: ModuleType) -> None:
        torch.backends.cudnn.allow_tf32 = False  # rounds the inputs of float32 convolutions by default
