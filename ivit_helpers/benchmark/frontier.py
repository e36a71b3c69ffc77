"""The frontier: the largest batch that fits into the device's memory, found by doubling and then by bisection."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ivit_helpers.device.device import Device, is_out_of_memory
from ivit_helpers.measure.timing import Forward, timed
from ivit_helpers.record.progress import Progress
from ivit_helpers.record.rows import BatchTried, BenchmarkRow, Frontier
from ivit_helpers.report.table import Table, number

MOST = 4096
"""Images: the largest batch that is tried"""
LONGEST_CALL_S = 30.0
"""Of a card; 4096 images of the 6B network take longer on every one of today"""
SHARE_OF_HOST_MEMORY = 0.7
"""Of the free host memory that a batch on a CPU may take: a system that runs out of it kills processes instead of refusing"""
BALANCED = 0.95
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
ASKED = re.compile(r"[Tt]ried to allocate ([\d.]+) (KiB|MiB|GiB)")


def asked_bytes(error: BaseException) -> int | None:
    """The memory that a refused allocation asked for, from the error's text; None where it does not say."""
    found = ASKED.search(str(error))
    return round(float(found[1]) * UNITS[found[2]]) if found else None


@dataclass
class _Search:
    """One search, and what it has tried."""

    forward: Forward
    batch: Callable[[int], Tensor]
    device: Device
    longest_s: float
    tried: list[BatchTried] = field(default_factory=list)

    def fits(self, size: int) -> bool:
        """Try one call with that many images."""
        self.device.release_memory()
        self.device.reset_peak_memory()
        try:
            with self.device.inference():
                pixels = self.batch(size)
                if not self.tried:
                    self.forward(pixels)  # the very first call also loads kernels
                seconds = timed(lambda: self.forward(pixels), self.device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.tried.append(
                BatchTried(
                    batch_size=size, fits=False, asked_bytes=asked_bytes(error), error=self.device.explain(error)
                )
            )
            return False
        finally:
            self.device.release_memory()
        self.tried.append(BatchTried(batch_size=size, fits=True, seconds=seconds, peak_bytes=self.device.peak_memory()))
        return True

    def why_not_larger(self, size: int) -> str:
        """Why a batch of this size is not even tried; empty where it is."""
        fitted = [one for one in self.tried if one.fits]
        if size > MOST:
            return f"larger batches than {MOST:,} are not tried"
        if not fitted:
            return ""
        last = fitted[-1]
        longer = (last.seconds or 0) * size / last.batch_size
        if longer > self.longest_s:
            return f"a call of {size} images would take about {longer:.3g} s, more than {self.longest_s:.3g}"
        needed = self._host_memory(fitted, size)
        if needed > SHARE_OF_HOST_MEMORY * self.device.available_memory():
            return f"{size} images would need about {needed / 2**30:.1f} GiB of host memory, too much of what is free"
        return ""

    def _host_memory(self, fitted: Sequence[BatchTried], size: int) -> float:
        """Bytes that `size` images need beyond the smallest batch, by the growth so far; 0 on a device with memory of its own."""
        first, last = fitted[0], fitted[-1]
        if not self.device.uses_host_memory or first is last or not first.peak_bytes or not last.peak_bytes:
            return 0.0
        return max(0, last.peak_bytes - first.peak_bytes) / (last.batch_size - first.batch_size) * size


def frontier(
    forward: Forward, batch: Callable[[int], Tensor], device: Device, longest_s: float = LONGEST_CALL_S
) -> Frontier:
    """The largest batch that fits. Every attempt is kept, with the memory that a failed one asked for.

    longest_s: seconds; a batch that would take longer is not tried.

    Doubles from one image until a batch fails, then halves the distance between what fits and what does not. Raises RuntimeError for
    an error that is not about memory.
    """
    search = _Search(forward, batch, device, longest_s)
    fits, fails, size, ended = 0, 0, 1, ""
    with Progress(desc="largest batch", unit="try") as progress:
        while not fails and not (ended := search.why_not_larger(size)):
            fits, fails = (size, 0) if search.fits(size) else (fits, size)
            size *= 2
            progress.update()
        while fails - fits > 1:
            middle = (fits + fails) // 2
            fits, fails = (middle, fails) if search.fits(middle) else (fits, middle)
            progress.update()
    return Frontier(
        largest=fits,
        exact=bool(fails),
        ended=ended or f"a batch of {fails} does not fit into the memory",
        tried=search.tried,
    )


def swept_sizes(found: Frontier) -> list[int]:
    """The batch sizes to measure up to the frontier: powers of two, and the frontier itself."""
    powers = [2**power for power in range(MOST.bit_length()) if 2**power <= found.largest]
    return sorted({*powers, *([found.largest] if found.largest else [])})


def frontier_table(found: Frontier | None) -> Table:
    """Every batch that was tried."""
    if found is None:
        return Table([{"largest batch": "not looked for: batch_sizes=auto finds it"}])
    rows = [
        {
            "batch": str(one.batch_size),
            "fits": "yes" if one.fits else "no",
            "s": number(one.seconds, 3),
            "peak MiB": number(one.peak_bytes and one.peak_bytes / 2**20, 0),
            "asked for, MiB": number(one.asked_bytes and one.asked_bytes / 2**20, 0),
            "error": one.error or "",
        }
        for one in found.tried
    ]
    largest = f"{found.largest}{'' if found.exact else ' or more'}"
    return Table(rows, f"The largest batch that fits: {largest}. {found.ended[:1].upper()}{found.ended[1:]}")


def recommended(rows: Sequence[BenchmarkRow]) -> Table:
    """The batch for the least latency, for the most throughput, and for nearly that at less latency; of the first implementation."""
    measured = [row for row in rows if row.was_measured]
    own = [row for row in measured if row.implementation == measured[0].implementation and row.latency_ms]
    if not own:
        return Table([{"batch": "nothing was measured"}])

    def latency(row: BenchmarkRow) -> float:
        return row.latency_ms.p50 or row.latency_ms.mean if row.latency_ms else 0.0

    def throughput(row: BenchmarkRow) -> float:
        return row.images_per_s or 0.0

    fastest = max(own, key=throughput)
    balanced = min((row for row in own if throughput(row) >= BALANCED * throughput(fastest)), key=latency)
    chosen = {
        "one answer as soon as possible": (min(own, key=latency), "the least latency"),
        "as many images as possible": (fastest, "the most throughput"),
        "nearly as many, sooner": (balanced, f"the least latency with {BALANCED:.0%} of the most throughput"),
    }
    lines = [
        {
            "for": purpose,
            "batch": str(row.batch_size),
            "images/s": number(row.images_per_s),
            "median latency, ms": number(latency(row)),
            "why": why,
        }
        for purpose, (row, why) in chosen.items()
    ]
    return Table(lines, f"Which batch size to use, of those measured with {own[0].implementation}")
