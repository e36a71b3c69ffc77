"""Timed batched passes: the first call, warm-up, windows of samples, percentiles, a sweep that survives running out of memory.

Every clock is the host's, read after the device has finished. Times are in seconds unless a name says otherwise.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from torch import Tensor

from ivit_helpers.device.device import Device
from ivit_helpers.device.graphs import Prepared
from ivit_helpers.images.transform import synthetic_pixels
from ivit_helpers.measure.launches import host_and_device
from ivit_helpers.measure.samples import agree, interval, percentile
from ivit_helpers.record.progress import Progress
from ivit_helpers.record.rows import BenchmarkRow, Latency, TimingRow
from ivit_helpers.report.table import NOTHING, Table, number
from ivit_helpers.weights.loading import Loaded

WINDOWS, MOST_WINDOWS = 3, 10
"""Windows that must agree, and after how many the timing ends anyway (source: perf_analyzer)"""
LEAST_SECONDS = 0.5
"""Of a window, for each implementation"""
MOST_ROUNDS = 1000
"""Of a window, unless more were asked for"""
Forward = Callable[[Tensor], Tensor]


@dataclass
class Series:
    """What was measured of one implementation at one batch size."""

    implementation: str
    batch_size: int
    first_call_s: float | None = None
    windows_s: list[list[float]] = field(default_factory=list)
    """Seconds of every timed call, window by window"""
    peak_memory_bytes: int | None = None
    kept_bytes: int | None = None
    """Device memory that was not given back when all implementations had been timed at this batch size"""
    error: str = ""
    prepare_s: float | None = None
    """To capture or compile, before the first call; None where nothing is prepared"""
    host_s: float | None = None
    """Of a call until its last launch returned; None on a device that computes in the call"""
    device_s: float | None = None
    """Of the same calls until the device was idle"""

    @property
    def is_steady(self) -> bool:
        """Whether the last three windows agree in throughput and in median latency."""
        last = self.windows_s[-WINDOWS:]
        return (
            len(last) == WINDOWS
            and agree([statistics.fmean(w) for w in last])
            and agree([statistics.median(w) for w in last])
        )

    @property
    def used_windows_s(self) -> list[list[float]]:
        """The windows that figures are of: the last three where they agree, else all."""
        return self.windows_s[-WINDOWS:] if self.is_steady else self.windows_s

    def row(self, dtype: str, flops_per_image: int) -> TimingRow:
        """The record's row: throughput, latency, memory and work; null where nothing was measured."""
        row = TimingRow(
            implementation=self.implementation,
            dtype=dtype,
            batch_size=self.batch_size,
            prepare_s=self.prepare_s,
            first_call_s=self.first_call_s,
            host_ms=_milliseconds(self.host_s),
            device_ms=_milliseconds(self.device_s),
            peak_memory_bytes=self.peak_memory_bytes,
            error=self.error or None,
        )
        if not self.windows_s or self.error:
            return row
        samples = list(chain.from_iterable(self.used_windows_s))
        mean = statistics.fmean(samples)
        p50, p90, p99 = (_milliseconds(percentile(samples, wanted)) for wanted in (50, 90, 99))
        low, high = interval([self.batch_size / statistics.fmean(window) for window in self.used_windows_s]) or (
            None,
            None,
        )
        measured = {
            "images_per_s": self.batch_size / mean,
            "images_per_s_low": None if low is None else max(low, 0.0),
            "images_per_s_high": high,
            "steady": self.is_steady,
            "ms_per_image": 1e3 * mean / self.batch_size,
            "latency_ms": Latency(p50=p50, p90=p90, p99=p99, mean=1e3 * mean, n=len(samples)),
            "tflops": flops_per_image * self.batch_size / mean / 1e12,
            "samples_ms": [round(1e3 * sample, 4) for sample in chain.from_iterable(self.windows_s)],
            "windows": [len(window) for window in self.windows_s],
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


def _prepare(series: Series, forward: Forward, pixels: Tensor, device: Device) -> None:
    """Capture or compile for this batch, where an implementation does so; it may have been done before, for another question."""
    if isinstance(forward, Prepared):
        _attempt(series, lambda: forward.prepare(pixels), device)
        series.prepare_s = forward.prepared_s.get(pixels.shape)


def _begin(series: Series, call: Callable[[], object], device: Device, warmup: int, seconds: float) -> None:
    """First call and warm-up of one series, with its peak memory; the warm-up also ends after `seconds`."""
    deadline = (
        time.perf_counter() + seconds
    )  # the first call counts: where it alone takes longer, warm-up is not worth its time
    if not series.error:
        series.first_call_s = _attempt(series, call, device)
    for _ in range(warmup):
        if series.error or time.perf_counter() > deadline:
            break
        _attempt(series, call, device)
    if not series.error:
        series.peak_memory_bytes = device.peak_memory()
    if not series.error and not device.uses_host_memory:
        series.host_s, series.device_s = host_and_device(call, device)


def _window(
    series: Sequence[Series], calls: Sequence[Callable[[], object]], device: Device, rounds: int, seconds: float
) -> None:
    """One more window of every series: calls in turn, at least `rounds` of them and half a second, or until the time is over.

    There is one round at least. Windows of a few milliseconds differ by chance, so fast calls are made more often.
    """
    running = [(one, call) for one, call in zip(series, calls, strict=True) if not one.error]
    began, least = time.perf_counter(), LEAST_SECONDS * len(running)
    for one, _ in running:
        one.windows_s.append([])
    for done in range(max(rounds, MOST_ROUNDS)):
        passed = time.perf_counter() - began
        if done and (passed > seconds * len(running) or (done >= rounds and passed >= least)):
            break
        for one, call in running:
            sample = None if one.error else _attempt(one, call, device)
            if sample is not None:
                one.windows_s[-1].append(sample)


def alternating(
    forwards: Mapping[str, Forward], pixels: Tensor, device: Device, *, warmup: int, repeats: int, seconds: float
) -> list[Series]:
    """Time several implementations on one batch in turn (A B C, A B C, ...), so that a drift of the machine affects all of them alike.

    Samples come in windows. Timing ends when the last three windows of every implementation agree, or after ten. Three windows have
    `repeats` calls, or take `seconds`, of each implementation.
    """
    series = [Series(name, len(pixels)) for name in forwards]
    calls = [lambda forward=forward: forward(pixels) for forward in forwards.values()]
    with device.inference():
        for one, forward, call in zip(series, forwards.values(), calls, strict=True):
            device.release_memory()
            device.reset_peak_memory()
            _prepare(one, forward, pixels, device)
            _begin(one, call, device, warmup, seconds)
        for _ in Progress(range(MOST_WINDOWS), desc=f"batch {len(pixels)}", unit="window"):
            _window(series, calls, device, rounds=math.ceil(repeats / WINDOWS), seconds=seconds / WINDOWS)
            if all(one.error or one.is_steady for one in series):
                break
    return series


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
        before = device.allocated_memory()
        try:
            series = alternating(forwards, batch(size), device, warmup=warmup, repeats=repeats, seconds=seconds)
        except RuntimeError as error:
            series = [Series(name, size, error=device.explain(error)) for name in forwards]
        device.release_memory()
        after = device.allocated_memory()
        for one in series:
            one.kept_bytes = None if before is None or after is None else after - before
        measured += series
    return measured


def paired_ratios(one: Series, other: Series) -> list[list[float]]:
    """How many times as fast as `other` `one` is, round by round of an alternating measurement, in the windows that figures are of."""
    windows = list(zip(one.windows_s, other.windows_s, strict=True))
    if one.is_steady and other.is_steady:
        windows = windows[-WINDOWS:]
    return [[theirs / ours for ours, theirs in zip(mine, yours, strict=True)] for mine, yours in windows]


def pixel_batch(loaded: Loaded, size: int, seed: int = 0) -> Tensor:
    """`size` synthetic images (size, 3, side, side) on the device, in the network's dtype; others for every seed."""
    pixels = synthetic_pixels(size, loaded.network.config.image_size, seed)
    return pixels.to(loaded.device.torch_device, loaded.dtype)


def timing_table(rows: Sequence[TimingRow]) -> Table:
    """Every configuration of a sweep, including those that failed."""
    return Table(
        [_shown(row) for row in rows],
        "Every configuration; a dash where there are too few samples, or nothing is known",
    )


def _shown(row: TimingRow) -> dict[str, str]:
    latency = row.latency_ms
    shown = {
        "batch": str(row.batch_size),
        "implementation": row.implementation,
        "images/s": number(row.images_per_s),
        "ms/image": number(row.ms_per_image),
        **{f"{name} ms": number(getattr(latency, name, None)) for name in ("p50", "p90", "p99", "mean")},
        "n": number(getattr(latency, "n", None), 0),
        "prepare s": number(row.prepare_s, 3),
        "first call s": number(row.first_call_s, 3),
        "peak MiB": number(row.peak_memory_bytes and row.peak_memory_bytes / 2**20, 0),
        "TFLOP/s": number(row.tflops, 3),
    }
    if isinstance(row, BenchmarkRow):
        shares = {
            "of vendor peak": row.share_of_vendor_peak,
            "of products alone": row.share_of_measured_matmul,
            "of bound": row.share_of_bound,
        }
        shown |= {heading: number(share and 100 * share, 1, " %") for heading, share in shares.items()}
        shown["relative error"] = NOTHING if row.relative_error is None else f"{row.relative_error:.1e}"
        return shown | {"failed with": row.error or (f"not here: {row.unavailable}" if row.unavailable else "")}
    return shown | {"failed with": row.error or ""}
