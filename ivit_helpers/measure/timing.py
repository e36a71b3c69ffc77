"""Timed batched passes: the first call, warm-up, samples, percentiles, a sweep that survives running out of memory.

Every clock is the host's, read after the device has been waited for. Times are in seconds unless a name says otherwise.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from scipy.stats import binom
from torch import Tensor
from tqdm import tqdm

from ivit_helpers.device import Device
from ivit_helpers.images import synthetic_pixels
from ivit_helpers.record import BenchmarkRow, Latency, TimingRow
from ivit_helpers.report import NOTHING, Table, number
from ivit_helpers.weights import Loaded

MINIMUM_REPEATS = 3
Forward = Callable[[Tensor], Tensor]


def minimum_samples(percentile: float, confidence: float = 0.99) -> int:
    """Fewest samples that carry a percentile: with this confidence, at least two samples are beyond it.

    Source: the early stopping rule of MLPerf loadgen; 11 for the median, 64 for p90, 662 for p99 at 99 % confidence.
    """
    count = 2
    while binom.cdf(1, count, 1 - percentile / 100) > 1 - confidence:
        count += 1
    return count


def percentile(samples: Sequence[float], wanted: float) -> float | None:
    """The nearest-rank percentile; None where the samples are too few to say. The median is given from three samples on."""
    if len(samples) < (MINIMUM_REPEATS if wanted == 50 else minimum_samples(wanted)):
        return None
    if wanted == 50:
        return statistics.median(samples)
    rank = -(-len(samples) * wanted // 100)  # ceiling
    return sorted(samples)[int(rank) - 1]


@dataclass
class Series:
    """What was measured of one implementation at one batch size."""

    implementation: str
    batch_size: int
    first_call_s: float | None = None
    samples_s: list[float] = field(default_factory=list)
    peak_memory_bytes: int | None = None
    error: str = ""

    def row(self, dtype: str, flops_per_image: int) -> TimingRow:
        """The record's row: throughput, latency, memory and work; null where nothing was measured."""
        row = TimingRow(
            implementation=self.implementation,
            dtype=dtype,
            batch_size=self.batch_size,
            first_call_s=self.first_call_s,
            peak_memory_bytes=self.peak_memory_bytes,
            error=self.error or None,
        )
        if not self.samples_s or self.error:
            return row
        mean = statistics.fmean(self.samples_s)
        p50, p90, p99 = (_milliseconds(percentile(self.samples_s, wanted)) for wanted in (50, 90, 99))
        measured = {
            "images_per_s": self.batch_size / mean,
            "ms_per_image": 1e3 * mean / self.batch_size,
            "latency_ms": Latency(p50=p50, p90=p90, p99=p99, mean=1e3 * mean, n=len(self.samples_s)),
            "tflops": flops_per_image * self.batch_size / mean / 1e12,
            "samples_ms": [round(1e3 * sample, 4) for sample in self.samples_s],
        }
        return row.model_copy(update=measured)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def timed(call: Callable[[], object], device: Device) -> float:
    """Seconds that one call takes, from an idle device to an idle device."""
    device.synchronize()
    began = time.perf_counter()
    call()
    device.synchronize()
    return time.perf_counter() - began


def _attempt(series: Series, call: Callable[[], object], device: Device) -> float | None:
    """Time one call; an error ends this series and nothing else."""
    try:
        return timed(call, device)
    except (RuntimeError, MemoryError, NotImplementedError) as error:
        series.error = device.explain(error)
        device.release_memory()
        return None


def _begin(series: Series, call: Callable[[], object], device: Device, warmup: int, seconds: float) -> None:
    """First call and warm-up of one series, with its peak memory; the warm-up also ends after `seconds`."""
    device.release_memory()
    device.reset_peak_memory()
    deadline = time.perf_counter() + seconds  # the first call counts: where it alone takes longer, warm-up is not worth its time
    series.first_call_s = _attempt(series, call, device)
    for _ in range(warmup):
        if series.error or time.perf_counter() > deadline:
            break
        _attempt(series, call, device)
    if not series.error:
        series.peak_memory_bytes = device.peak_memory()


def alternating(
    forwards: Mapping[str, Forward], pixels: Tensor, device: Device, *, warmup: int, repeats: int, seconds: float
) -> list[Series]:
    """Time several implementations on one batch in turn (A B C, A B C, ...), so that a drift of the machine affects all of them alike.

    Stops after `repeats` rounds, or when every implementation has had `seconds`, with three rounds at least.
    """
    calls = {name: (lambda forward=forward: forward(pixels)) for name, forward in forwards.items()}
    series = {name: Series(name, len(pixels)) for name in forwards}
    with device.inference():
        for name, call in calls.items():
            _begin(series[name], call, device, warmup, seconds)
        deadline = time.perf_counter() + seconds * len(series)
        for done in tqdm(range(repeats), desc=f"batch {len(pixels)}", unit="round", leave=False, delay=1):
            if done >= MINIMUM_REPEATS and time.perf_counter() > deadline:
                break
            for name, call in calls.items():
                sample = None if series[name].error else _attempt(series[name], call, device)
                if sample is not None:
                    series[name].samples_s.append(sample)
    return list(series.values())


def sweep(
    forwards: Mapping[str, Forward],
    batch: Callable[[int], Tensor],
    batch_sizes: Sequence[int],
    device: Device,
    *,
    warmup: int,
    repeats: int,
    seconds: float,
) -> list[Series]:
    """Time every implementation at every batch size; what fails (out of memory, a refused operator) stays as a row with its error.

    batch: gives the pixel values (n, 3, height, width) of n images, on the device.
    """
    measured: list[Series] = []
    for size in batch_sizes:
        try:
            pixels = batch(size)
        except RuntimeError as error:
            measured += [Series(name, size, error=device.explain(error)) for name in forwards]
            continue
        measured += alternating(forwards, pixels, device, warmup=warmup, repeats=repeats, seconds=seconds)
    return measured


def paired_ratios(one: Series, other: Series) -> list[float]:
    """How many times as fast as `other` `one` is, round by round of an alternating measurement."""
    return [theirs / ours for ours, theirs in zip(one.samples_s, other.samples_s, strict=False)]


def pixel_batch(loaded: Loaded, size: int) -> Tensor:
    """`size` synthetic images (size, 3, side, side) on the device, in the network's dtype."""
    pixels = synthetic_pixels(size, loaded.network.config.image_size)
    return pixels.to(loaded.device.torch_device, loaded.dtype)


def timing_table(rows: Sequence[TimingRow]) -> Table:
    """Every configuration of a sweep, including those that failed."""
    return Table([_shown(row) for row in rows], "Every configuration; a dash where there are too few samples, or nothing is known")


def _shown(row: TimingRow) -> dict[str, str]:
    latency = row.latency_ms
    shown = {
        "batch": str(row.batch_size),
        "implementation": row.implementation,
        "images/s": number(row.images_per_s),
        "ms/image": number(row.ms_per_image),
        **{f"{name} ms": number(getattr(latency, name, None)) for name in ("p50", "p90", "p99", "mean")},
        "n": number(getattr(latency, "n", None), 0),
        "first call s": number(row.first_call_s, 3),
        "peak MiB": number(row.peak_memory_bytes and row.peak_memory_bytes / 2**20, 0),
        "TFLOP/s": number(row.tflops, 3),
    }
    if isinstance(row, BenchmarkRow):
        shares = {"of vendor peak": row.share_of_vendor_peak, "of measured matmul": row.share_of_measured_matmul}
        shown |= {heading: number(share and 100 * share, 1, " %") for heading, share in shares.items()}
        shown["relative error"] = NOTHING if row.relative_error is None else f"{row.relative_error:.1e}"
    return shown | {"failed with": row.error or ""}
