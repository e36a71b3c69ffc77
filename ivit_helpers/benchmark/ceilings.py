"""What a device could do at most."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ivit_helpers.device import Device
from ivit_helpers.measure import timed
from ivit_helpers.weights import Loaded


def matmul_tflops(device: Device, dtype: torch.dtype, seconds: float = 2.0) -> float:
    """TFLOP/s of one large square matrix product on this very device: a practical limit, beside the vendor's peak."""
    side = device.matmul_side
    with device.inference():
        left, right = (torch.randn(side, side, device=device.torch_device).to(dtype) for _ in range(2))
        for _ in range(3):
            timed(lambda: left @ right, device)
        deadline = time.perf_counter() + seconds
        samples = [timed(lambda: left @ right, device)]
        while time.perf_counter() < deadline and len(samples) < 200:
            samples.append(timed(lambda: left @ right, device))
    return 2 * side**3 / statistics.median(samples) / 1e12


@dataclass(frozen=True)
class Ceilings:
    """What the device could do at most, in TFLOP/s."""

    published: Mapping[str, float]
    """Dense 16-bit peaks by their source; the first is the one that utilisation is counted from"""
    measured: float
    dtype: torch.dtype

    @property
    def vendor(self) -> float | None:
        """None for a device that has no published peak, and for float32, whose peak is another."""
        return next(iter(self.published.values()), None) if self.dtype != torch.float32 else None

    def described(self) -> dict[str, str]:
        peaks = {f"vendor peak, 16 bit ({source})": f"{peak:g} TFLOP/s" for source, peak in self.published.items()}
        return (peaks or {"vendor peak": "n/a: no peak is published for this device"}) | {
            "matrix product measured here": f"{self.measured:.3f} TFLOP/s"
        }


def ceilings(loaded: Loaded) -> Ceilings:
    """The vendor's peaks, and a matrix product measured here and now, which also raises the clock before the sweep."""
    return Ceilings(loaded.device.peak_tflops(), matmul_tflops(loaded.device, loaded.dtype), loaded.dtype)
