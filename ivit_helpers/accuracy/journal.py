"""Predictions on the disk as they are made: a file that only grows, so that a killed run leaves the answers that it had.

The first line holds the key, which says what the answers are of, and who writes; each further line is a block of whole batches. A line
begins with the CRC-32 of the rest of it. What follows the last whole line is the trace of a kill or of a damaged disk, and is dropped.
Every process of every run writes a file of its own, which no other process touches, and `merged` puts their rows together.
"""

import fcntl
import heapq
import json
import os
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ivit_helpers.errors import InputError

FORMAT = 2
SECONDS = 1.0
"""Between two writes: so much of the work is lost at most when the process is killed"""
NUMBER = "number"
"""The field that every row has: the image's place in the set"""
Row = Mapping[str, Any]
Key = Mapping[str, Any]


class StoredRows(Collection[Row]):
    """The rows of a journal, read from its file whenever they are gone through: none of them stays in memory."""

    def __init__(self, path: Path, whole: int = 0, count: int = 0) -> None:
        """whole: bytes of the whole lines. count: rows in them."""
        self._path, self._whole, self._count = path, whole, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        for end, content in whole_lines(self._path) if self._count else ():
            yield from content.get("rows", ())  # the first line has none
            if end >= self._whole:
                return

    def __contains__(self, row: object) -> bool:
        return any(row == own for own in self)


@dataclass(frozen=True)
class Kept:
    """What a journal holds."""

    rows: StoredRows
    key: Key | None = None
    """What its answers are of; None where not even the first line is whole"""
    by: Mapping[str, Any] = field(default_factory=dict)
    """Who wrote it, as Journal was told"""
    batches: Sequence[Row] = field(default_factory=list)
    """What was measured of each batch, in order"""
    dropped: int = 0
    """Bytes after the last whole line"""

    def is_of(self, key: Key) -> bool:
        """Whether the answers are of the same model, images and settings."""
        return bool(self.key == as_json(key))


class Journal:
    """A journal that is being written, by this process alone: the file is locked until it is closed or the process has ended."""

    def __init__(self, path: Path, key: Key, by: Mapping[str, Any] | None = None) -> None:
        """Begin a new journal; an older file of that name is replaced. Raises InputError where it cannot be written.

        by: who writes it, as far as JSON can hold it.
        """
        self.path = path
        self._rows: list[Row] = []
        self._batches: list[Row] = []
        self._written = time.monotonic()
        self._file: IO[bytes] | None = None
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from None
        with suppress(OSError):  # not every shared file system has locks
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._write({"journal": FORMAT, "key": key, "by": by or {}})

    def append(self, rows: Iterable[Row], batch: Row | None = None) -> None:
        """Add the rows of a batch, each with its `number`, and what was measured of it.

        They are on the disk SECONDS later at most, if more are appended, or at `close`; all of a batch or nothing.
        """
        self._rows += rows
        self._batches += [batch] if batch else []
        if time.monotonic() - self._written >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring all rows to the disk. Raises InputError where they cannot be written, for example on a full disk."""
        if self._rows and self._file:
            self._write({"rows": self._rows, "batches": self._batches})
            self._rows, self._batches = [], []
        self._written = time.monotonic()

    def close(self) -> None:
        """Bring all rows to the disk and close the file, which stays."""
        if self._file:
            self.flush()
            self._file.close()
            self._file = None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, content: Any) -> None:
        file, rest = self._file, _line(content)
        assert file
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError as error:
            file.close()
            self._file = None
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(
            f"{self.path} cannot be written ({error.strerror}): make room or give another folder as out=FOLDER."
        )


def is_being_written(path: Path) -> bool:
    """Whether a process that has not ended writes this journal."""
    try:
        with path.open("r+b") as file:  # NFS locks only what may be written
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _line(content: Any) -> bytes:
    text = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _content(line: bytes) -> Any:
    """What a line holds. Raises ValueError where the line is not whole."""
    crc, text = line[:8], line[9:-1]
    if line[-1:] != b"\n" or line[8:9] != b" " or int(crc, 16) != zlib.crc32(text):
        raise ValueError("a line that is not whole")
    return json.loads(text)


def as_json(key: Key) -> Any:
    """A key as it is after it was written and read."""
    return json.loads(json.dumps(key))


def whole_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """What each whole line of a journal holds, behind the place in the file where it ends; up to the first one that is not whole.

    Raises FileNotFoundError.
    """
    end = 0
    with path.open("rb") as file:
        for line in file:
            try:
                content = _content(line)
            except (ValueError, RecursionError):
                return
            end += len(line)
            yield end, content


def read_journal(path: Path) -> Kept:
    """What all whole blocks of a journal hold; nothing where there is no such file. Raises nothing for a damaged one."""
    head: Mapping[str, Any] = {}
    batches: list[Row] = []
    size = whole = count = 0
    try:
        size = path.stat().st_size
        for end, content in whole_lines(path):
            if head:
                count += len(content["rows"])
                batches += content["batches"]
            elif content["journal"] == FORMAT:
                head = {"key": content["key"], "by": content["by"]}
            else:
                break
            whole = end
    except FileNotFoundError:
        return Kept(StoredRows(path))
    except (KeyError, TypeError):
        pass
    return Kept(StoredRows(path, whole, count), head.get("key"), head.get("by", {}), batches, size - whole)


class Followed:
    """Counts the rows of a journal that others write, without reading any of it twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def more(self) -> int:
        """How many rows have come since the last call."""
        count = 0
        with suppress(OSError, ValueError, KeyError, TypeError), self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                count += len(_content(line).get("rows", ()))
                self._read += len(line)
        return count


def merged(kept: Iterable[Kept], key: Key) -> Iterator[Row]:
    """The rows of several journals in the images' order, each image once. Journals of another key are left out.

    Each journal is in that order itself, so a block of each is in memory and no more. Raises InputError where two rows of one image
    differ.
    """
    last: Row = {NUMBER: -1}
    for row in heapq.merge(*(journal.rows for journal in kept if journal.is_of(key)), key=itemgetter(NUMBER)):
        if row[NUMBER] > last[NUMBER]:
            yield row
        elif row != last:
            raise InputError(
                f"Two processes answered image {row[NUMBER]} differently: delete the journals of this run and start it again."
            )
        last = row
