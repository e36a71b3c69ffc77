"""The journals in a run's folder: what earlier runs answered is taken up where it is of the same key, and moved aside where it is not."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ivit_helpers.accuracy.journal import NUMBER, Kept, Key, is_being_written, read_journal
from ivit_helpers.accuracy.key import differences
from ivit_helpers.errors import InputError
from ivit_helpers.paths import printable
from ivit_helpers.record.folder import EARLIER, JOURNAL, put_aside
from ivit_helpers.record.record import read
from ivit_helpers.record.rows import Interruption

NAME = "accuracy_predictions"
PATIENCE = 30.0
"""Seconds in which the processes of a run that was killed end by themselves"""


def journals(folder: Path) -> list[Path]:
    """All journals of an accuracy run's folder, by launch and by process."""
    return sorted(folder.glob(f"{NAME}.*{JOURNAL}"), key=_place)


def journal_path(folder: Path, launch: int, process: int) -> Path:
    """The journal of one process. launch: counts how often processes were started in this folder, from 1 on."""
    return folder / f"{NAME}.{launch}-{process}{JOURNAL}"


def _place(path: Path) -> tuple[int, int]:
    launch, _, process = path.name.removeprefix(f"{NAME}.").removesuffix(JOURNAL).partition("-")
    return (int(launch), int(process)) if launch.isdecimal() and process.isdecimal() else (0, 0)


def next_launch(folder: Path) -> int:
    """The number of the next launch."""
    return 1 + max((_place(path)[0] for path in journals(folder)), default=0)


def read_before(folder: Path, launch: int) -> list[Kept]:
    """The journals of all launches before this one."""
    return [read_journal(path) for path in journals(folder) if _place(path)[0] < launch]


@dataclass(frozen=True)
class Earlier:
    """What earlier runs into a folder left for this one."""

    kept: Sequence[Kept]
    """Of the same key"""
    anew: str
    """Why others were not taken up, with where they are now; empty where there were none"""


def take_up(folder: Path, key: Key) -> Earlier:
    """Read the journals of a folder, and move those of another key aside. Raises InputError where one is still being written."""
    paths = journals(folder)
    _wait_until_written(paths)
    read_back = {path: read_journal(path) for path in paths}
    others = [path for path, kept in read_back.items() if not kept.is_of(key)]
    changed = next((differences(read_back[path].key or {}, key) for path in others if read_back[path].key), "")
    place = put_aside(folder, others)
    anew = f"This run begins anew, because the answers of an earlier run in its folder are of something else ({changed}); they are in {place}."
    return Earlier([kept for path, kept in read_back.items() if path not in others], anew if changed else "")


def _wait_until_written(paths: Sequence[Path]) -> None:
    """Wait for processes of a run that was killed; they end when they see it."""
    until = time.monotonic() + PATIENCE
    for path in paths:
        while is_being_written(path):
            if time.monotonic() > until:
                raise InputError(
                    f"{printable(str(path))} is still being written by a process of an earlier run: wait for it, or give another folder."
                )
            time.sleep(0.05)


def unanswered(kept: Iterable[Kept], images: int, batch_size: int) -> list[Sequence[int]]:
    """The numbers of the images that no journal has, in batches that hold the same images in every run of this batch size."""
    missing = bytearray(b"\1") * images
    for journal in kept:
        for row in journal.rows:
            missing[row[NUMBER]] = 0
    found: list[Sequence[int]] = []
    for first in range(0, images, batch_size):
        last = min(first + batch_size, images)
        count = sum(missing[first:last])
        if count == last - first:
            found.append(range(first, last))
        elif count:
            found.append([number for number in range(first, last) if missing[number]])
    return found


def interruptions(folder: Path, kept: Iterable[Kept], own: str) -> list[Interruption]:
    """The earlier runs that wrote journals, the first one first, each with why it ended. own: the id of this run."""
    by_run: dict[str, list[Kept]] = {}
    for journal in kept:
        by_run.setdefault(journal.by["run"], []).append(journal)
    return [
        Interruption(
            run=run,
            started=found[0].by["started"],
            reason=_reason(folder, run),
            images=sum(len(journal.rows) for journal in found),
            journals=len(found),
            dropped_bytes=sum(journal.dropped for journal in found),
        )
        for run, found in by_run.items()
        if run != own
    ]


def _reason(folder: Path, run: str) -> str:
    """Why an earlier run ended, by its record."""
    for path in sorted((folder / EARLIER).glob("*/accuracy.json")):
        try:
            record = read(path)
        except InputError:
            continue
        if record.id == run:
            return record.reason.partition(" Go on with: ")[0]
    return "its record is not there any more"
