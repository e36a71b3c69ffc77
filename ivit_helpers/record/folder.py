"""The folder of a run: writable, locked while the run lasts, and without anything of an earlier run."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from ivit_helpers.errors import InputError
from ivit_helpers.paths import REPORTS
from ivit_helpers.record.parameters import NOTEBOOKS, AnyParameters
from ivit_helpers.record.record import read

LOCK = ".ivit-lock"
EARLIER = "earlier"
"""Folder in a run's folder that holds what earlier runs left there"""
JOURNAL = ".journal"
"""Ends the names of files that hold the answers of an unfinished run"""
LEAST_FREE = 64 * 2**20
"""Bytes: four pages and records of the 6B network take 5 MB, the answers to 50,000 images 12 MB."""


def given_folder(parameters: AnyParameters) -> Path:
    """The folder that a user asks for, or reports/."""
    return Path(parameters.out).expanduser().resolve() if parameters.out else REPORTS


def check_folder(parameters: AnyParameters) -> None:
    """Raise InputError, before anything starts, where a run's files could not be written. Leaves nothing behind."""
    folder = given_folder(parameters)
    inputs = {name: getattr(parameters, name, "") for name in ("reference", "other")}
    for name, given in [*inputs.items(), *(("runs", run) for run in getattr(parameters, "runs", []))]:
        path = Path(given).expanduser().resolve()
        if given and parameters.out and folder in (path, path.parent):
            raise InputError(f"{name}={given!r} is in this run's own folder: give the run another folder with --out.")
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free // 2**20
    except OSError as error:
        raise InputError(
            f"The output folder {folder} cannot be written ({error.strerror}): give another folder with --out."
        ) from None
    if free < LEAST_FREE // 2**20:
        raise InputError(
            f"The output folder {folder} has {free} MiB of free space and a run may need {LEAST_FREE // 2**20}: "
            "free some, or give another folder with --out."
        )


class RunFolder:
    """A folder that this run alone writes into until it is closed, or until its process ends, however that ends.

    It is the one that the parameters name, or a new one in reports/. What an earlier run left in it is moved into its
    folder earlier/. Raises InputError where another run that has not ended uses it.
    """

    def __init__(self, parameters: AnyParameters) -> None:
        check_folder(parameters)
        if parameters.out:
            self.path = given_folder(parameters)
            self.path.mkdir(parents=True, exist_ok=True)
        else:
            model = Path(getattr(parameters, "model", "compare")).name
            device = getattr(parameters, "devices", "") or getattr(parameters, "device", "")
            words = re.sub(r"[^A-Za-z0-9._]+", "-", f"{model[:80]}-{device}").strip("-")
            self.path = _new_folder(REPORTS, f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{words}")
        # A singleton, so that a cell that runs again has the lock already.
        self.file_lock = FileLock(self.path / LOCK, blocking=False, is_singleton=True)
        self.lock()
        self.set_aside = put_aside(self.path, _earlier_files(self.path))

    def lock(self) -> None:
        """Keep other runs out. Raises InputError where another run uses the folder."""
        try:
            if not self.file_lock.is_locked:
                self.file_lock.acquire()
        except Timeout:
            raise InputError(
                f"The folder {self.path} is used by another run that has not ended: wait for it, or give another one."
            ) from None

    def close(self) -> None:
        """Let other runs use the folder."""
        if self.file_lock.is_locked:
            (self.path / LOCK).unlink(missing_ok=True)
            self.file_lock.release(force=True)


def is_used(folder: Path) -> bool:
    """Whether a run that has not ended uses this folder."""
    if not (folder / LOCK).is_file():
        return False
    try:
        with FileLock(folder / LOCK, blocking=False):
            return False
    except OSError:  # Timeout is one
        return True


def _new_folder(root: Path, name: str) -> Path:
    """A folder that was not there before: two runs may begin in the same second."""
    folder, number = root / name, 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = root / f"{name}-{number}"
        else:
            return folder


def _earlier_files(folder: Path) -> list[Path]:
    """What earlier runs left in a folder, without the answers of one that did not reach its conclusion."""
    prefixes = tuple(f"{name}{mark}" for name in NOTEBOOKS for mark in "._")
    try:
        concluded = read(folder / "accuracy.json").concluded
    except InputError:
        concluded = False
    files = [path for path in folder.iterdir() if path.name.startswith(prefixes)]
    return [path for path in files if concluded or path.suffix != JOURNAL]


def put_aside(folder: Path, paths: Sequence[Path]) -> Path | None:
    """Move files of a folder into earlier/<time of the last of them>; returns where to, or None for no files."""
    if not paths:
        return None
    changed = datetime.fromtimestamp(max(path.lstat().st_mtime for path in paths), timezone.utc)
    earlier = _new_folder(folder / EARLIER, f"{changed:%Y%m%dT%H%M%SZ}")
    for path in paths:
        path.rename(earlier / path.name)
    return earlier
