"""Time loading a model folder against reading its weight files raw, in turn, on the CPU in the files' own dtype.

    python tools/time_loading.py FOLDER [--rounds 3] [--cold]

Prints each pair and the median of the pairs' ratios. Memory is what the process holds beside the files it has mapped (RssAnon).
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
from ivit_helpers.weights import checkpoint, loading

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
    found, device = checkpoint.find(folder), select("cpu")
    loading.load(checkpoint.find("tiny"), device, torch.float32)  # imports and first calls are not loading
    gigabytes = sum(path.stat().st_size for path in found.shards) / 1e9
    ratios = []
    for number in range(rounds):
        taken = {}
        works: list[tuple[str, Callable[[], float]]] = [
            ("raw", lambda: timed(lambda: read_raw(found.shards), device)),
            ("load", lambda: loading.load(found, device, torch.bfloat16).seconds),  # without the gate of the kernels before it
        ]
        before = held()
        for name, work in works if number % 2 == 0 else works[::-1]:
            if cold:
                forget(found.shards)
            taken[name] = work()
        ratios.append(taken["load"] / taken["raw"])
        click.echo(
            f"{gigabytes:.2f} GB: raw {taken['raw']:.2f} s, load {taken['load']:.2f} s, ratio {ratios[-1]:.2f}, "
            f"anonymous memory {(held() - before) / 2**20:+.0f} MiB"
        )
    click.echo(f"median ratio {statistics.median(ratios):.2f} of {rounds} pairs, {'disk' if cold else 'cache as it was'}")


if __name__ == "__main__":
    main()
