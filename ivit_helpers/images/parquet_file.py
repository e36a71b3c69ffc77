"""Parquet files through pyarrow. These functions run in a process of their own: pyarrow can crash or fill the memory on a hostile file.

Each takes a path as bytes in hexadecimal and gives bytes.
"""

import functools
import json
import os
from typing import Any

import pyarrow
from pyarrow import parquet

from ivit_helpers.images.labelled_images import MOST_WORD

MOST_ROWS = 3_000_000
"""Rows of one file: the whole of ImageNet-1K has 1.4 million images"""
MOST_NAME = 4_096
"""Characters of an image's name, as of a path in Linux; a longer one counts as none"""

pyarrow.set_cpu_count(1)
pyarrow.set_io_thread_count(1)


@functools.lru_cache(maxsize=4)
def _opened(path: str) -> Any:
    return parquet.ParquetFile(os.fsdecode(bytes.fromhex(path)), memory_map=False)


def index(path: str) -> bytes:
    """The image column, the names and labels of all rows, and for each row group its rows and the declared bytes of its images.

    JSON. Of the images only the names are read; a parquet file stores them apart from the bytes.
    """
    file = _opened(path)
    metadata = file.metadata
    if not 0 <= metadata.num_rows <= MOST_ROWS:
        raise ValueError(f"it declares {metadata.num_rows:,} rows, and {MOST_ROWS:,} is the most that is read")
    column = _image_column(file.schema_arrow)
    table = file.read(columns=[f"{column}.path", "label"], use_threads=False)
    groups = [_group(metadata.row_group(number), column) for number in range(metadata.num_row_groups)]
    names = [_name(cell["path"] if cell else None) for cell in _as_bytes(table.column(column), "path")]
    labels = [_written(label) for label in _as_bytes(table.column("label"))]
    if not len(names) == len(labels) == sum(rows for rows, _ in groups):
        raise ValueError("its row groups do not add up to its rows")
    return json.dumps({"column": column, "names": names, "labels": labels, "groups": groups}).encode()


def cell(path: str, column: str, group: int, row: int) -> bytes:
    """An image file, after one byte; empty where the cell is."""
    found = _row_group(path, column, group)[row].as_py()
    content = found and found["bytes"]
    return b"" if content is None else b"+" + content


@functools.lru_cache(maxsize=2)
def _row_group(path: str, column: str, group: int) -> Any:
    """The images of one row group, about 10 MB: images are mostly read in order, and a group is the smallest part that can be read."""
    read = _opened(path).read_row_group(group, columns=[f"{column}.bytes"], use_threads=False)
    return read.column(column)


def _group(group: Any, column: str) -> tuple[int, int]:
    chunks = [group.column(number) for number in range(group.num_columns)]
    return group.num_rows, sum(
        chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.startswith(f"{column}.")
    )


def _image_column(schema: Any) -> str:
    for field in schema:
        parts = {part.name for part in field.type} if isinstance(field.type, pyarrow.StructType) else set()
        if {"bytes", "path"} <= parts and "label" in schema.names:
            return str(field.name)
    shown = ", ".join(schema.names)[:200]
    raise ValueError(f"it has the columns {shown}: expected an image column of bytes and path, and a column `label`")


def _as_bytes(column: Any, part: str = "") -> list[Any]:
    """A column as Python's values; texts may hold bytes that are not UTF-8."""
    return [_decoded(value.as_py, part, value) for chunk in column.chunks for value in chunk]


def _decoded(read: Any, part: str, value: Any) -> Any:
    try:
        return read()
    except UnicodeDecodeError:
        raw = value[part] if part else value
        text = (
            raw.cast(pyarrow.binary() if raw.type == pyarrow.string() else pyarrow.large_binary())
            .as_py()
            .decode(errors="surrogateescape")
        )
        return {part: text} if part else text


def _name(name: Any) -> str | None:
    return name if isinstance(name, str) and len(name) <= MOST_NAME else None


def _written(label: Any) -> str | None:
    """A label as a word. pandas stores a column of whole numbers that has gaps as fractions: 3.0, and NaN for a gap."""
    if label is None or label == -1 or label != label:  # noqa: PLR0124 (only NaN differs from itself)
        return None
    if isinstance(label, (list, dict)):
        raise TypeError(
            f"its labels are lists or records ({str(label)[:50]}), and one class for each image is expected"
        )
    word = label.decode(errors="surrogateescape") if isinstance(label, bytes) else str(label)
    if isinstance(label, float) and label.is_integer():
        word = str(int(label))
    return word[: MOST_WORD + 1]
