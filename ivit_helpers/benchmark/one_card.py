"""One process of several that time their cards at once: `python -m ivit_helpers.benchmark.one_card SETTINGS`.

It loads the model onto its own card and meets the others before each window, so that all begin together.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ivit_helpers.benchmark.implementations import implementations
from ivit_helpers.device.device import Device
from ivit_helpers.device.graphs import Prepared
from ivit_helpers.device.selection import select
from ivit_helpers.distributed import Place, broadcast, gather, group, serve
from ivit_helpers.errors import InputError
from ivit_helpers.measure.launches import host_and_device
from ivit_helpers.measure.timing import pixel_batch, timed
from ivit_helpers.model.kernels import relative_error
from ivit_helpers.record.parameters import BenchmarkParameters
from ivit_helpers.record.record import write_whole
from ivit_helpers.weights import loading, sources

WINDOWS = 5
"""Of each kind: the first card alone, and all at once"""


def window(call: Callable[[], object], device: Device, seconds: float) -> tuple[float, float, int]:
    """Calls back to back for so many seconds, one at least: when they began and ended by the machine's clock, and how many there were."""
    began = ended = time.monotonic()
    calls = 0
    while not calls or ended - began < seconds:
        timed(call, device)
        calls += 1
        ended = time.monotonic()
    return began, ended, calls


def _launching(call: Callable[[], object], device: Device) -> tuple[float, float] | None:
    """Seconds of the host and of the device; None on a device that computes in the call."""
    return None if device.uses_host_memory else host_and_device(call, device)


def measured(place: Place, told: Any, accelerator: Device) -> dict[str, Any]:
    """What this process measured."""
    asked = BenchmarkParameters(**told["parameters"])
    loaded = loading.load(sources.find(asked.model), accelerator, accelerator.dtype(asked.dtype))
    [forward] = implementations([told["implementation"]], loaded).values()
    pixels, seconds = pixel_batch(loaded, told["batch_size"]), asked.seconds / WINDOWS
    found: dict[str, Any] = {
        "card": told["devices"][place.local_rank],
        "alone": [],
        "at_once": [],
        "alone_launching": None,
    }

    def call() -> object:
        return forward(pixels)

    with accelerator.inference():
        answer = forward(pixel_batch(loaded, 1)).cpu()
        found["error"] = relative_error(answer, broadcast(answer))
        if isinstance(forward, Prepared):
            forward.prepare(pixels)
        for _ in range(1 + asked.warmup):
            timed(call, accelerator)
        for _ in range(WINDOWS):
            gather(None)
            if place.rank == 0:
                found["alone"].append(window(call, accelerator, seconds))
                found["alone_launching"] = _launching(call, accelerator)
            gather(None)
            found["at_once"].append(window(call, accelerator, seconds))
            found["launching"] = _launching(call, accelerator)
    return found


def work(place: Place, told: Any) -> None:
    """Measure with the others; the first process writes what all of them found. Raises InputError where a card does not do it."""
    accelerator = select(told["devices"][place.local_rank])
    with group():
        try:
            found = measured(place, told, accelerator)
        except (RuntimeError, MemoryError) as error:
            raise InputError(f"{told['devices'][place.local_rank]}: {accelerator.explain(error)}") from None
        found_by_all = gather(found)
    if place.rank == 0:
        write_whole(Path(told["answer"]), json.dumps(found_by_all))


if __name__ == "__main__":
    serve(work, together=True)
