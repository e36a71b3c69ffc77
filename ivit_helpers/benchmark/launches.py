"""How many launches a forward pass takes, and whether the device waits for the host that makes them."""

from collections.abc import Mapping, Sequence

from ivit_helpers.device.graphs import Compiled
from ivit_helpers.measure.launches import audited
from ivit_helpers.measure.timing import Forward, pixel_batch
from ivit_helpers.record.record import BenchmarkRecord
from ivit_helpers.record.rows import BenchmarkRow
from ivit_helpers.record.run import Run
from ivit_helpers.report.table import Table, number
from ivit_helpers.weights.loading import Loaded

WAITS = "launch-bound: this card waits for the host"
NO_DIFFERENCE = "n/a: a CPU computes in the calls themselves"


def count(rows: Sequence[BenchmarkRow], forwards: Mapping[str, Forward], loaded: Loaded) -> None:
    """Fill in what each implementation launches for one image. Compiled code is left out: the dispatcher does not see what it launches."""
    pixels = pixel_batch(loaded, 1)
    for name, forward in forwards.items():
        if isinstance(forward, Compiled):
            continue
        with loaded.device.inference():
            audit = audited(lambda forward=forward: forward(pixels), loaded.device)  # type: ignore[misc]
        for row in rows:
            if row.implementation == name and not audit.refused:
                row.launches = audit.launches


def check_waiting(run: Run[BenchmarkRecord], rows: Sequence[BenchmarkRow]) -> None:
    """Say where the card waits for the host, and what to do; a device that computes in the calls has no such check."""
    told = [row for row in rows if row.host_ms is not None]
    bound = [f"{row.implementation} at batch {row.batch_size}" for row in told if row.is_launch_bound]
    has_graph = any(row.implementation == "graph" for row in rows)
    advice = "use larger batches" if has_graph else "add 'graph' to implementations, or use larger batches"
    detail = f"{WAITS} with {', '.join(bound)}; {advice}" if bound else "in no configuration"
    if told:
        run.check("the card does not wait for the host", None if bound else True, detail)


def launch_table(rows: Sequence[BenchmarkRow]) -> Table:
    """Launches of a forward pass, and the host's time for them beside the device's."""
    shown = [
        {
            "batch": str(row.batch_size),
            "implementation": row.implementation,
            "launches": number(row.launches, 0),
            "ms until the last launch returns": number(row.host_ms),
            "ms until the device is idle": number(row.device_ms),
            "who waits": NO_DIFFERENCE
            if row.host_ms is None
            else WAITS
            if row.is_launch_bound
            else "the host waits for the card",
        }
        for row in rows
        if row.was_measured
    ]
    return Table(shown, "Launches of one forward pass of one image, copies included, and who waits at each batch size")
