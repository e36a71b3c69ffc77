"""Does a benchmark on an unsteady machine ever claim, in green, what the next quiet run contradicts?

    python tools/unsteady_machine.py [--runs 20]

Each run times the embedded miniature on the CPU while other processes take the cores in bursts of random length, and then again without
them. A green verdict is contradicted when the 95 % intervals of throughput, or of the ratio to transformers, of the two runs are apart.
"""

import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click
import torch

from ivit_helpers.benchmark import ceilings, implementations, questions
from ivit_helpers.device.cpu import host
from ivit_helpers.record.parameters import BenchmarkParameters
from ivit_helpers.record.rows import BenchmarkRow
from ivit_helpers.record.run import start
from ivit_helpers.weights import loading, sources

Interval = tuple[float, float]


def burst(seed: int, longest: float) -> None:
    """Take one core in bursts for ever."""
    chance = random.Random(seed)  # noqa: S311
    while True:
        ends = time.monotonic() + chance.uniform(0, longest)
        while time.monotonic() < ends:
            pass
        time.sleep(chance.uniform(0, longest))


@contextmanager
def unsteady(seed: int, longest: float) -> Iterator[None]:
    """Two processes that take cores in bursts."""
    processes = [
        multiprocessing.Process(target=burst, args=(2 * seed + number, longest), daemon=True) for number in range(2)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


@dataclass(frozen=True)
class Result:
    """What one benchmark said."""

    status: str
    reason: str
    speed: Interval
    ratio: Interval | None

    def contradicts(self, other: "Result") -> bool:
        pairs = [(self.speed, other.speed), *([(self.ratio, other.ratio)] if self.ratio and other.ratio else [])]
        return any(here[0] > there[1] or here[1] < there[0] for here, there in pairs)


def measured(loaded: loading.Loaded, seconds: float) -> Result:
    """One benchmark of two implementations at one batch size."""
    with tempfile.TemporaryDirectory() as folder:
        asked = BenchmarkParameters(
            batch_sizes=[1],
            implementations=["fused", "transformers-sdpa"],
            warmup=3,
            repeats=60,
            seconds=seconds,
            out=folder,
        )
        run = start(asked)
        forwards = implementations.implementations(asked.implementations, loaded)
        judged = questions.check_agreement(run, forwards, loaded)
        row: BenchmarkRow = questions.measure(run, forwards, judged, loaded, asked, ceilings.ceilings(loaded))[0]
        run.finish("")
    speed = (row.images_per_s_low or 0.0, row.images_per_s_high or float("inf"))
    return Result(run.record.status, run.record.reason, speed, (row.ratio.low, row.ratio.high) if row.ratio else None)


@click.command()
@click.option("--runs", default=20, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="Of timing, for each configuration.")
@click.option(
    "--longest", default=1.0, show_default=True, help="Seconds of the longest burst and of the longest pause."
)
def main(runs: int, seconds: float, longest: float) -> None:
    """Print a line for each pair of runs, and how many green claims were contradicted."""
    loaded = loading.load(sources.find("tiny"), host(), torch.float32)
    contradicted = green = 0
    for number in range(runs):
        with unsteady(number, longest):
            shaken = measured(loaded, seconds)
        quiet = measured(loaded, seconds)
        wrong = shaken.status == "passed" and shaken.contradicts(quiet)
        green += shaken.status == "passed"
        contradicted += wrong
        said = "  CONTRADICTED" if wrong else ""
        print(f"{number + 1:2d}  unsteady: {_shown(shaken)}   quiet: {_shown(quiet)}{said}", flush=True)
    print(f"{green} of {runs} unsteady runs were green, {contradicted} of them contradicted by the next quiet run")


def _shown(result: Result) -> str:
    ratio = f", ratio {result.ratio[0]:.2f} to {result.ratio[1]:.2f}" if result.ratio else ""
    return f"{result.status:10s} {result.speed[0]:6.1f} to {result.speed[1]:6.1f} images/s{ratio}"


if __name__ == "__main__":
    main()
