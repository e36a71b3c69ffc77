"""The folder of a run: writable, locked while the run lasts, and without anything of an earlier run."""

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from ivit_helpers.errors import InputError
from ivit_helpers.paths import REPORTS, printable
from ivit_helpers.record.parameters import NOTEBOOKS, AnyParameters
from ivit_helpers.record.record import read

LOCK = ".ivit-lock"
EARLIER = "earlier"
"""Folder in a run's folder that holds what earlier runs left there"""
JOURNAL = ".journal"
"""Ends the names of files that hold what an unfinished run has found so far"""
LEAST_FREE = 64 * 2**20
"""Bytes. The three notebooks, pages and records of the 6B network take 5 MB, the answers to 50,000 images 12 MB."""
PROBE = 2**16
LONGEST_NAME = 80


def run_name(asked: AnyParameters) -> str:
    """<UTC time>-<model>-<device>, as a folder name."""
    words = [datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ"), *asked.named_after]
    return "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", word)[:LONGEST_NAME] for word in words)


def given_folder(asked: AnyParameters) -> Path:
    """The folder that a user asks for, or reports/. Raises InputError for a path that cannot be one."""
    try:
        return Path(asked.out).expanduser().resolve() if asked.out else REPORTS
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, an unknown user's home, a NUL
        raise InputError(
            f"out={printable(asked.out)!r} is not a path of this machine ({error}): give another folder."
        ) from None


def check_folder(asked: AnyParameters) -> None:
    """Raise InputError, before anything starts, where a run's files could not be written. Leaves nothing behind."""
    folder = given_folder(asked)
    _refuse_what_it_reads(asked, folder)
    advice = "give another folder with --out"
    name = printable(str(folder))
    try:
        there = next(place for place in (folder, *folder.parents) if _is_there(place))
        if not there.is_dir():
            what = (
                "is a file" if there == folder else f"cannot be made, because {printable(str(there))} is not a folder"
            )
            raise InputError(f"The output folder {name} {what}: {advice}.")
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(bytes(PROBE))
            probe.flush()
            os.fsync(probe.fileno())
        free = shutil.disk_usage(there).free
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"The output folder {name} cannot be written ({reason}): {advice}.") from None
    if free < LEAST_FREE:
        raise InputError(
            f"The output folder {name} has {free / 2**20:.0f} MiB of free space and a run may need {LEAST_FREE / 2**20:.0f}: "
            f"free some, or {advice}."
        )


def _is_there(place: Path) -> bool:
    try:
        place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


class RunFolder:
    """A folder that this run alone writes into until it is closed, or until its process ends, however that ends.

    It is the one that the parameters name, or a new one in reports/. What an earlier run left in it is moved into its folder earlier/.
    Raises InputError where that cannot be, or where another run that has not ended uses it.
    """

    def __init__(self, asked: AnyParameters) -> None:
        check_folder(asked)
        self.path = given_folder(asked) if asked.out else _new_folder(REPORTS, run_name(asked))
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(
            self.path / LOCK, blocking=False, is_singleton=True
        )  # a cell that runs again has it already
        self._acquire()
        self.set_aside = set_aside(self.path)

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            raise InputError(
                f"The folder {printable(str(self.path))} is used by another run that has not ended: wait for it, or give another folder."
            ) from None

    def reopen(self) -> bool:
        """Lock the folder again after `close`; returns whether it was closed. Raises InputError where another run uses it now."""
        closed = not self._lock.is_locked
        if closed:
            self._acquire()
        return closed

    def close(self) -> None:
        """Let other runs use the folder."""
        if self._lock.is_locked:
            (self.path / LOCK).unlink(missing_ok=True)
            self._lock.release(force=True)


def is_used(folder: Path) -> bool:
    """Whether a run that has not ended uses this folder."""
    if not (folder / LOCK).is_file():
        return False
    try:
        with FileLock(folder / LOCK, blocking=False):
            return False
    except (Timeout, OSError):
        return True


def _new_folder(root: Path, name: str) -> Path:
    """A folder that was not there before: two runs may begin in the same second."""
    root.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = root / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def _refuse_what_it_reads(asked: AnyParameters, folder: Path) -> None:
    """Raise InputError where the run would write into the folder of a run that it reads, and set that aside."""
    named = [
        *((name, getattr(asked, name, "")) for name in ("reference", "other")),
        *(("runs", run) for run in getattr(asked, "runs", [])),
    ]
    for name, given in named:
        try:
            place = Path(given).expanduser().resolve()
        except (OSError, RuntimeError, ValueError):
            continue  # reported where it is read
        if given and asked.out and folder in (place, place.parent):
            raise InputError(f"{name}={given!r} is in this run's own folder: give the run another folder with --out.")


def set_aside(folder: Path) -> Path | None:
    """Move what an earlier run left in a folder into earlier/<its time>; returns where to, or None where there was nothing.

    The journals of a run that did not reach its conclusion stay, so that this run can go on with them.
    """
    left = [
        path
        for path in folder.iterdir()
        if path.name.startswith(tuple(f"{name}{mark}" for name in NOTEBOOKS for mark in "._"))
    ]
    staying = {
        path
        for path in left
        if path.suffix == JOURNAL and not _concluded(folder / f"{path.name.partition('_')[0]}.json")
    }
    return put_aside(folder, [path for path in left if path not in staying])


def put_aside(folder: Path, paths: Sequence[Path]) -> Path | None:
    """Move files of a folder into earlier/<time of the last of them>; returns where to, or None where there are none."""
    if not paths:
        return None
    changed = datetime.fromtimestamp(max(path.lstat().st_mtime for path in paths), timezone.utc)
    earlier = _new_folder(folder / EARLIER, changed.strftime("%Y%m%dT%H%M%SZ"))
    for path in paths:
        path.rename(earlier / path.name)
    return earlier


def _concluded(record: Path) -> bool:
    try:
        return read(record).concluded
    except InputError:
        return False
