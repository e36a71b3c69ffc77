"""Compare the time to load a model folder with the time to read its weight files and do nothing with them, on the CPU in bfloat16.

    python tools/time_loading.py FOLDER [--rounds 3] [--cold]

The two alternate. Prints each pair, and the median of load time / raw read time. Memory is that of the process without the files it
has mapped (RssAnon).
"""

import os
import re
import statistics
from collections.abc import Callable
from pathlib import Path

import click
import torch

from ivit_helpers.device.selection import select
from ivit_helpers.measure.timing import timed
from ivit_helpers.weights import loading, sources

BUFFER_BYTES = 2**24


def forget(files: tuple[Path, ...]) -> None:
    """Ask the system to drop the files from its cache, so that the disk is read."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_raw(files: tuple[Path, ...]) -> None:
    """Read the files from end to end into one buffer."""
    buffer = bytearray(BUFFER_BYTES)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def held() -> int:
    """Bytes of anonymous memory of this process."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024 if found else 0


@click.command()
@click.argument("folder")
@click.option("--rounds", default=3, show_default=True)
@click.option("--cold", is_flag=True, help="Drop the files from the system's cache before every reading.")
def main(folder: str, rounds: int, cold: bool) -> None:
    """Time FOLDER."""
    found, device = sources.find(folder), select("cpu")
    loading.load(sources.find("tiny"), device, torch.float32)  # so that imports and first calls are not timed
    gigabytes = sum(path.stat().st_size for path in found.files) / 1e9
    ratios = []
    for number in range(rounds):
        taken = {}
        works: list[tuple[str, Callable[[], float]]] = [
            ("raw", lambda: timed(lambda: read_raw(found.files), device)),
            (
                "load",
                lambda: loading.load(found, device, torch.bfloat16).seconds,
            ),  # without the check of the kernels that comes first
        ]
        before = held()
        for name, work in works if number % 2 == 0 else works[::-1]:
            if cold:
                forget(found.files)
            taken[name] = work()
        ratios.append(taken["load"] / taken["raw"])
        click.echo(
            f"{gigabytes:.2f} GB: raw read {taken['raw']:.2f} s, load {taken['load']:.2f} s, load / raw read {ratios[-1]:.2f}, "
            f"anonymous memory {(held() - before) / 2**20:+.0f} MiB"
        )
    source = "files dropped from the cache before each reading" if cold else "cache as it was"
    click.echo(f"load time / raw read time: median {statistics.median(ratios):.2f} over {rounds} pairs, {source}")


if __name__ == "__main__":
    main()
