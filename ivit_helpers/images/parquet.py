"""Images in hub parquet files, read in place."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ivit_helpers.errors import InputError
from ivit_helpers.images.apart import MIB, ParserError, apart
from ivit_helpers.images.labelled_images import LabelledImages, StoredImage, inside, named
from ivit_helpers.images.regular import open_regular

MOST_FOOTER = 64 * MIB
"""Bytes of the metadata at the end of a file: an ImageNet shard has 0.1 million"""
INDEX_MEMORY = 768 * MIB
"""For the metadata, the names and the labels of one file. Names are short: a million rows take about 300 MiB"""
CELL_MEMORY = 384 * MIB
"""For a row group, beyond what it declares to hold"""
MOST_GROUP = 4096 * MIB
"""Declared bytes of a row group's images: pandas may write a whole shard as one group, and hub shards have 0.5 GB"""


@dataclass(frozen=True, slots=True)
class ParquetCell:
    """An image file in a parquet table's column of {bytes, path}."""

    shard: Path
    column: str
    group: int
    row: int
    memory: int
    """Bytes that reading its row group may take"""

    def read(self) -> bytes:
        """The cell's bytes. Raises ValueError where they cannot be read, FileNotFoundError where there are none."""
        where = os.fsencode(self.shard).hex(), self.column, self.group
        content = apart(self.memory).call("parquet_file:cell", *where, self.row, unit=where)
        if not content:
            raise FileNotFoundError
        return content[1:]


def parquet_shards(shards: Sequence[Path], name: str) -> LabelledImages:
    """Images of hub parquet files: a column of {bytes, path}, and a column `label` of class indices, -1 for none.

    Raises InputError for a file that cannot be read, or that declares more than is ever read.
    """
    paths: list[Path] = []
    stored: list[StoredImage] = []
    written: list[str | None] = []
    for shard in shards:
        found = _index(shard)
        paths += _row_paths(shard, found["names"])
        stored += _cells(shard, found["column"], found["groups"])
        written += found["labels"]
    return replace(named(name, paths, written), stored=stored)


def _index(shard: Path) -> dict[str, Any]:
    if find_spec("pyarrow") is None:
        raise InputError(
            f"{shard} is a parquet file, and pyarrow is not installed: pip install 'ivit-helpers[imagenet]'."
        )
    try:
        _check_footer(shard)
        found: dict[str, Any] = json.loads(apart(INDEX_MEMORY).call("parquet_file:index", os.fsencode(shard).hex()))
    except (OSError, ParserError) as error:
        raise InputError(
            f"{shard} cannot be read as parquet ({error}): if it is a table of images with labels, it is damaged; download it again."
        ) from None
    return found


def _check_footer(shard: Path) -> None:
    """Raise ParserError unless the file has the marks of parquet and a footer that fits into it."""
    with open_regular(shard) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        end = file.read(8)
    footer = int.from_bytes(end[:4], "little")
    if size < 12 or end[4:] != b"PAR1" or footer > size - 12:
        raise ParserError("it does not end as a parquet file does")
    if footer > MOST_FOOTER:
        raise ParserError(f"its metadata have {footer:,} bytes, and {MOST_FOOTER:,} is the most that is read")


def _row_paths(shard: Path, names: Sequence[str | None]) -> list[Path]:
    """The names of a shard's images: their own, and also their row where several have the same name or none."""
    often = Counter(names)
    return [
        inside(shard, name if name and often[name] == 1 else f"row {row}/{(name or '').lstrip('/')}")
        for row, name in enumerate(names)
    ]


def _cells(shard: Path, column: str, groups: Sequence[tuple[int, int]]) -> list[StoredImage]:
    largest = max((declared for _, declared in groups), default=0)
    if not 0 <= largest <= MOST_GROUP:
        raise InputError(
            f"{shard} declares a row group with {largest:,} bytes of images, and {MOST_GROUP:,} is the most that is read: "
            "write it with row groups of about 100 images."
        )
    memory = CELL_MEMORY + 3 * -(-largest // (128 * MIB)) * 128 * MIB  # in steps, so that shards share a process
    return [
        ParquetCell(shard, column, group, row, memory) for group, (rows, _) in enumerate(groups) for row in range(rows)
    ]
