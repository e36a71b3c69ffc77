"""What a device could do at most: arithmetic, memory, and the bound that follows for each batch size (the roofline model)."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ivit_helpers.device.device import Device
from ivit_helpers.measure.timing import timed
from ivit_helpers.record.rows import Limits
from ivit_helpers.weights.loading import Loaded

COPIED_BYTES = 2**28
BEYOND_CACHES = 2**29
"""Bytes of weights from which they are read from memory in every pass: the largest caches of today's CPUs and cards are smaller"""


def _median_seconds(call: Callable[[], object], device: Device, seconds: float) -> float:
    """Of at least one call, after three that do not count; for `seconds`, or 200 calls."""
    for _ in range(3):
        timed(call, device)
    deadline = time.perf_counter() + seconds
    samples = [timed(call, device)]
    while time.perf_counter() < deadline and len(samples) < 200:
        samples.append(timed(call, device))
    return statistics.median(samples)


def matmul_tflops(device: Device, dtype: torch.dtype, seconds: float = 2.0) -> float:
    """TFLOP/s of one large square matrix product on this very device. It also raises the clock before the sweep."""
    side = device.matmul_side
    with device.inference():
        left, right = (torch.randn(side, side, device=device.torch_device).to(dtype) for _ in range(2))
        return 2 * side**3 / _median_seconds(lambda: left @ right, device, seconds) / 1e12


def copied_gb_per_s(device: Device, seconds: float = 1.0) -> float:
    """GB/s (10^9 bytes) that a large copy within the device's memory reads and writes together."""
    source = torch.ones(COPIED_BYTES, dtype=torch.uint8, device=device.torch_device)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / _median_seconds(lambda: target.copy_(source), device, seconds) / 1e9


@dataclass(frozen=True)
class Ceilings:
    """What the device could do at most."""

    published: Mapping[str, float]
    """Dense 16-bit peaks in TFLOP/s by their source; the first is the one that utilisation is counted from"""
    measured: float
    """TFLOP/s of a large square product"""
    dtype: torch.dtype
    published_gb_per_s: float | None
    """The vendor's memory bandwidth"""
    copied_gb_per_s: float | None
    """The measured one"""
    weight_bytes: int
    flops_per_image: int

    @property
    def vendor(self) -> float | None:
        """None for a device that has no published peak, and for float32, whose peak is another."""
        return next(iter(self.published.values()), None) if self.dtype != torch.float32 else None

    @property
    def gb_per_s(self) -> float | None:
        """The vendor's bandwidth, else the measured one; None where the weights may stay in a cache, which is faster than both."""
        return (self.published_gb_per_s or self.copied_gb_per_s) if self.weight_bytes >= BEYOND_CACHES else None

    def tflops(self, products: float | None) -> float:
        """The vendor's peak, else the best that was measured. products: TFLOP/s of the network's own products."""
        return self.vendor or max(self.measured, products or 0.0)

    def bound(self, batch_size: int, products: float | None) -> float:
        """Images per second that the device cannot exceed: every weight is read once a pass, and every product is computed."""
        computing = self.flops_per_image * batch_size / self.tflops(products) / 1e12
        reading = self.weight_bytes / self.gb_per_s / 1e9 if self.gb_per_s else 0.0
        return batch_size / max(computing, reading)

    def limits(self, products: float | None) -> Limits:
        """For the record."""
        return Limits(
            vendor_tflops=dict(self.published),
            square_matmul_tflops=self.measured,
            products_tflops=products,
            vendor_gb_per_s=self.published_gb_per_s,
            copied_gb_per_s=self.copied_gb_per_s,
            tflops_of_bound=self.tflops(products),
            gb_per_s_of_bound=self.gb_per_s,
        )

    def described(self) -> dict[str, str]:
        """For a reader."""
        peaks = {f"vendor peak, 16 bit ({source})": f"{peak:g} TFLOP/s" for source, peak in self.published.items()}
        vendor = (
            f"{self.published_gb_per_s:g} GB/s" if self.published_gb_per_s else "n/a: none is known for this device"
        )
        return (peaks or {"vendor peak": "n/a: no peak is published for this device"}) | {
            "large square product, measured here": f"{self.measured:.3f} TFLOP/s",
            "memory bandwidth, vendor": vendor,
            "memory bandwidth, a copy measured here": f"{self.copied_gb_per_s:.1f} GB/s"
            if self.copied_gb_per_s
            else "not measured",
            "bytes read in every pass": f"{self.weight_bytes / 1e9:.2f} GB of weights"
            + ("" if self.gb_per_s else ", which may stay in a cache: no bound follows"),
        }


def ceilings(loaded: Loaded) -> Ceilings:
    """The vendor's peaks, and a matrix product and a copy measured here and now, which also raise the clock before the sweep."""
    device = loaded.device
    return Ceilings(
        published=device.peak_tflops(),
        measured=matmul_tflops(device, loaded.dtype),
        dtype=loaded.dtype,
        published_gb_per_s=device.peak_gb_per_s(),
        copied_gb_per_s=copied_gb_per_s(device),
        weight_bytes=loaded.bytes,
        flops_per_image=loaded.network.config.flops_per_image,
    )
