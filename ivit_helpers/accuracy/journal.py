"""Predictions on the disk as they are made: a file that only grows, so that a killed run leaves the answers that it had.

The first line holds the key, which says what the answers are of; each further line is a block of rows. A line begins with the CRC-32
of the rest of it. What follows the last whole line is the trace of a kill or of a damaged disk, and is dropped. Several processes write
a file each, and `merged` puts their rows together.
"""

import json
import os
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ivit_helpers.errors import InputError

FORMAT = 1
SECONDS = 1.0
"""Between two writes: so much of the work is lost at most when the process is killed"""
NUMBER = "number"
"""The field that every row has: the image's place in the set"""
Row = Mapping[str, Any]
Key = Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """What a journal holds."""

    key: Key | None
    """What its answers are of; None where not even the first line is whole"""
    rows: Sequence[Row] = field(default_factory=list)
    whole: int = 0
    """Bytes of the whole lines"""
    dropped: int = 0
    """Bytes after them"""

    def is_of(self, key: Key) -> bool:
        """Whether the answers are of the same model, images and settings."""
        return bool(self.key == _as_json(key))


class Journal:
    """A journal that is being written."""

    def __init__(self, path: Path, key: Key) -> None:
        """Begin a new journal; an older file of that name is replaced. Raises InputError where it cannot be written."""
        self.path = path
        self._waiting: list[Row] = []
        self._written = time.monotonic()
        self._file: IO[bytes] | None = None
        self._open("wb")
        self._write({"journal": FORMAT, "key": key})

    @classmethod
    def resumed(cls, path: Path, key: Key) -> tuple["Journal", Sequence[Row]]:
        """Go on with a journal of the same key, and give the rows that it has; with any other file or none, begin a new one."""
        kept = read_journal(path)
        if not kept.is_of(key):
            return cls(path, key), []
        journal = cls.__new__(cls)
        journal.path, journal._waiting, journal._written, journal._file = path, [], time.monotonic(), None
        journal._open("r+b")
        journal._cut(kept.whole)
        return journal, kept.rows

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows, each with its `number`; they are on the disk SECONDS later at most, if more are appended, or at `close`."""
        self._waiting += rows
        if time.monotonic() - self._written >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring all rows to the disk. Raises InputError where they cannot be written, for example on a full disk."""
        if self._waiting and self._file:
            self._write(self._waiting)
            self._waiting = []
        self._written = time.monotonic()

    def close(self) -> None:
        """Bring all rows to the disk and close the file, which stays."""
        if self._file:
            self.flush()
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Close and delete the file: the answers are kept elsewhere."""
        self.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self, mode: str) -> None:
        try:
            self._file = self.path.open(mode, buffering=0)
        except OSError as error:
            raise self._unwritable(error) from None

    def _cut(self, length: int) -> None:
        """Drop what follows the last whole line."""
        assert self._file
        self._file.truncate(length)
        self._file.seek(length)

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
        return InputError(f"{self.path} cannot be written ({error.strerror}): make room or give another folder as out=FOLDER.")


def _line(content: Any) -> bytes:
    text = json.dumps(content, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _content(line: bytes) -> Any:
    """What a line holds. Raises ValueError where the line is not whole."""
    crc, text = line[:8], line[9:-1]
    if line[-1:] != b"\n" or line[8:9] != b" " or int(crc, 16) != zlib.crc32(text):
        raise ValueError("a line that is not whole")
    return json.loads(text)


def _as_json(key: Key) -> Any:
    """A key as it is after it was written and read."""
    return json.loads(json.dumps(key))


def read_journal(path: Path) -> Kept:
    """The rows of all whole blocks of a journal; nothing where there is no such file. Raises nothing for a damaged one."""
    key: Key | None = None
    rows: list[Row] = []
    whole = 0
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            for line in file:
                content = _content(line)
                if key is None:
                    if content["journal"] != FORMAT:
                        break
                    key = content["key"]
                else:
                    rows += content
                whole += len(line)
    except FileNotFoundError:
        return Kept(None)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return Kept(key, rows, whole, size - whole)


def merged(kept: Iterable[Kept], key: Key) -> list[Row]:
    """The rows of several journals in the images' order, each image once. Journals of another key are left out.

    Raises InputError where two rows of one image differ.
    """
    found: dict[int, Row] = {}
    for journal in kept:
        for row in journal.rows if journal.is_of(key) else ():
            if found.setdefault(row[NUMBER], row) != row:
                raise InputError(
                    f"Two processes answered image {row[NUMBER]} differently: delete the journals of this run and start it again."
                )
    return [found[number] for number in sorted(found)]
