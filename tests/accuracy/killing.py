"""Kill processes of an evaluation at random moments, go on each time, and look whether an answer is lost, doubled or different.

    python -m tests.accuracy.killing 100        kills, two chains of runs at a time; prints what was killed and what was found

A chain is one folder: a run is started and one of its processes, whichever, is killed by SIGKILL; then the same command goes on, with
another number of processes, and is killed again. The last run of a chain is left alone, and must end with the table of one process
that nobody touched.
"""

import csv
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import redirect_stdout, suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil

from ivit_helpers.accuracy.earlier import journals
from ivit_helpers.accuracy.journal import NUMBER, read_journal
from ivit_helpers.device.selection import select
from ivit_helpers.errors import InputError
from ivit_helpers.images.layouts import image_set
from ivit_helpers.record.parameters import AccuracyParameters
from ivit_helpers.record.run import start

IMAGES, BATCH_SIZE = 160, 4
KILLS_OF_A_CHAIN = 5
PATIENCE = 180
WAYS = ("", "cpu:1", "cpu:2", "cpu:3")


def run(folder: str, devices: str) -> None:
    """The cells of the notebook as far as the table, in a process of its own."""
    from ivit_helpers.accuracy import evaluation, questions
    from ivit_helpers.weights import loading, sources

    with Path(f"{folder}.log").open("a") as output, redirect_stdout(output):
        asked = AccuracyParameters(
            out=folder, devices=devices, device="cpu", dtype="float32", limit=IMAGES, batch_size=BATCH_SIZE
        )
        begun = start(asked)
        device = select(asked.device, asked.devices)
        loaded = loading.load(sources.find(asked.model), device, device.dtype(asked.dtype))
        images = image_set(asked)
        questions.begin(begun, loaded, images)
        try:
            predictions = evaluation.evaluate(begun, loaded, images, asked)
        except InputError as error:
            output.write(str(error))
            sys.exit(1)
        row = questions.keep(begun, predictions, loaded)
        begun.finish(questions.headline(row, loaded))


def begun(folder: Path, devices: str) -> BaseProcess:
    """Start the evaluation, in a process that need not import torch again."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["ivit_helpers.accuracy.evaluation", "ivit_helpers.accuracy.questions", __name__])
    process = context.Process(target=run, args=(str(folder), devices))
    process.start()
    return process


def ended(process: BaseProcess) -> int:
    """Wait for a process; its exit code."""
    process.join(PATIENCE)
    assert process.exitcode is not None, "a process hangs"
    return process.exitcode


def table_in(folder: Path) -> list[list[str]]:
    """The predictions that a run left, without the run's id, sorted."""
    with (folder / "accuracy_predictions.csv").open(newline="") as file:
        return sorted(row[:-1] for row in csv.reader(file))


def rows_in(folder: Path) -> list[Any]:
    """All rows that are on the disk."""
    rows: list[Any] = []
    for path in journals(folder):
        with suppress(FileNotFoundError):  # a run that ends removes them
            rows += read_journal(path).rows
    return rows


def untouched(folder: Path) -> tuple[list[list[str]], dict[int, Any]]:
    """The table and the rows, by number, of one process that nobody touched."""
    process = begun(folder, "")
    rows: dict[int, Any] = {}
    while process.is_alive():
        rows |= {row[NUMBER]: row for row in rows_in(folder)}
    assert ended(process) == 0
    return table_in(folder), rows


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all that descend from it."""
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def role(process: psutil.Process) -> str:
    """What a process of an evaluation does."""
    words = " ".join(process.cmdline())
    names = {
        "ivit_helpers.distributed": "torchrun",
        "accuracy.process": "worker",
        "resource_tracker": "helper of Python",
    }
    return next((name for sign, name in names.items() if sign in words), "first process")


def killed(folder: Path, devices: str, chance: random.Random) -> tuple[str, int]:
    """Start a run and kill one of its processes; returns its role, empty where the run ended before, and the images on the disk before."""
    before = len(rows_in(folder))
    process = begun(folder, devices)
    started = psutil.Process(process.pid)
    present = set(journals(folder))
    if chance.random() < 0.75:  # while it answers, and not while it starts
        while process.is_alive() and not set(journals(folder)) - present:
            time.sleep(0.01)
        moment = time.monotonic() + chance.uniform(0, 3)
    else:
        moment = time.monotonic() + chance.uniform(0, 15)
    seen: set[psutil.Process] = set()
    while process.is_alive() and time.monotonic() < moment:
        seen |= set(family(started))
        time.sleep(0.05)
    what = ""
    alive = family(started)
    if process.is_alive() and alive:
        chosen = chance.choice(alive)
        with suppress(psutil.NoSuchProcess):
            what = role(chosen)
            chosen.kill()
    ended(process)
    left = psutil.wait_procs(seen | set(alive), timeout=PATIENCE)[1]
    assert not left, f"processes are left after the {what} was killed: {left}"
    return what, before


def chain(root: Path, seed: int, kills: int, expected: tuple[list[list[str]], dict[int, Any]]) -> Counter[str]:
    """Kill so often, go on each time, and compare with what is expected; returns how often each kind of process was killed."""
    chance, found, number = random.Random(seed), Counter[str](), 0
    table, rows = expected
    while sum(found.values()) < kills:
        number += 1
        folder = root / f"chain{seed}-{number}"
        whole = False
        while not whole and sum(found.values()) < kills:
            what, before = killed(folder, chance.choice(WAYS), chance)
            found[what] += bool(what)
            whole = (folder / "accuracy_predictions.csv").exists()
            if not whole:
                on_disk = rows_in(folder)
                assert len(on_disk) >= before, "an answer is lost"
                assert len({row[NUMBER] for row in on_disk}) == len(on_disk), "an image was answered twice"
                assert all(rows.get(row[NUMBER], row) == row for row in on_disk), "an answer is different"
        if not whole:
            assert ended(begun(folder, chance.choice(WAYS))) == 0, Path(f"{folder}.log").read_text()
        assert table_in(folder) == table, f"another table than that of one process: {folder}"
    return +found


def main(kills: int) -> None:
    """Kill so often in two chains at a time, and print what was found."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as root, ThreadPoolExecutor(2) as pool:
        expected = untouched(Path(root) / "untouched")
        of_chain = [min(KILLS_OF_A_CHAIN, kills - first) for first in range(0, kills, KILLS_OF_A_CHAIN)]
        chains = [pool.submit(chain, Path(root), seed, count, expected) for seed, count in enumerate(of_chain)]
        for one in as_completed(chains):
            print(f"a chain of {one.result().total()} kills ended as it must", flush=True)
        found: Counter[str] = sum((one.result() for one in chains), Counter())
    listed = ", ".join(f"{count} of a {name}" for name, count in found.most_common())
    print(
        f"{sum(found.values())} kills ({listed}) in {time.monotonic() - began:.0f} s: no prediction lost, doubled or different."
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
