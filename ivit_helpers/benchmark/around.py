"""What is around the computation: copying a batch to the device and its answer back, and the energy that an image takes."""

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ivit_helpers.device.device import Device
from ivit_helpers.measure.timing import Forward, timed
from ivit_helpers.record.rows import Transfer
from ivit_helpers.report.table import Table, number

COPIES = 11
SECONDS = 4.0
BETWEEN = 0.25
"""Seconds between two looks at the power; the vendors' tools average over about as much"""


def transfer(forward: Forward, pixels: Tensor, device: Device) -> Transfer | None:
    """Milliseconds that a batch takes to the device and its last hidden state takes back, medians; None where nothing is copied."""
    if device.uses_host_memory:
        return None
    with device.inference():
        answer = forward(pixels).clone()
        on_host = pixels.cpu()
        there = [timed(lambda: on_host.to(device.torch_device), device) for _ in range(COPIES)]
        back = [timed(answer.cpu, device) for _ in range(COPIES)]
    return Transfer(
        batch_size=len(pixels), copy_in_ms=1e3 * statistics.median(there), copy_out_ms=1e3 * statistics.median(back)
    )


@dataclass
class _Power:
    """Watts, read in a thread while the device computes."""

    read: Callable[[], float | None]
    watts: list[float] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        while not self.over.wait(BETWEEN):
            found = self.read()
            if found is not None:
                self.watts.append(found)


def joules_per_image(forward: Forward, pixels: Tensor, device: Device, seconds: float = SECONDS) -> float | None:
    """Mean power times the time of an image, over calls back to back; None where the device does not say its power."""
    if device.power_watts() is None:
        return None
    power, calls = _Power(device.power_watts), 0
    reader = threading.Thread(target=power, daemon=True)
    with device.inference():
        forward(pixels)
        device.synchronize()
        began = time.perf_counter()
        reader.start()
        while time.perf_counter() - began < seconds or not power.watts:
            timed(lambda: forward(pixels), device)
            calls += 1
        took = time.perf_counter() - began
    power.over.set()
    reader.join()
    return statistics.fmean(power.watts) * took / (calls * len(pixels))


def transfer_table(found: Sequence[Transfer]) -> Table:
    """The copies beside the computation, at each batch size."""
    if not found:
        return Table([{"copies": "n/a: this device computes in the host's memory"}])
    rows = [
        {
            "batch": str(one.batch_size),
            "copy in, ms": number(one.copy_in_ms),
            "copy out, ms": number(one.copy_out_ms),
            "energy of an image, J": number(one.joules_per_image),
        }
        for one in found
    ]
    return Table(
        rows,
        "Not part of any time above: a batch of pixels to the device, the last hidden state back, pageable host memory",
    )
