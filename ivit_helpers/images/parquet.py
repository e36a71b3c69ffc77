"""Images in hub parquet files, read in place."""

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ivit_helpers.errors import InputError
from ivit_helpers.images.labelled_images import LabelledImages, StoredImage, inside, named


@dataclass(frozen=True)
class ParquetCell:
    """An image file in a parquet table's column of {bytes, path}."""

    shard: Path
    column: str
    group: int
    row: int

    def read(self) -> bytes:
        """The cell's bytes."""
        cell = _row_group(self.shard, self.column, self.group)[self.row]
        if cell is None or cell["bytes"] is None:
            raise FileNotFoundError
        content: bytes = cell["bytes"]
        return content


@functools.lru_cache(maxsize=2)
def _row_group(shard: Path, column: str, group: int) -> list[Any]:
    """The images of one row group, about 10 MB: images are mostly read in order, and a group is the smallest part that can be read."""
    rows: list[Any] = _parquet_file(shard).read_row_group(group, columns=[column]).column(column).to_pylist()
    return rows


def _parquet_file(shard: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise InputError(f"{shard} is a parquet file, and pyarrow is not installed: pip install 'ivit-helpers[imagenet]'.") from None
    try:
        return parquet.ParquetFile(shard)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{shard} cannot be read as parquet ({error}): the file is damaged or incomplete, download it again.") from None


def parquet_shards(shards: Sequence[Path], name: str) -> LabelledImages:
    """Images of hub parquet files: a column of {bytes, path}, and a column `label` of class indices, -1 for none."""
    paths: list[Path] = []
    stored: list[StoredImage] = []
    written: list[str | None] = []
    for shard in shards:
        file = _parquet_file(shard)
        column = _image_column(file.schema_arrow, shard)
        # Of the images only the names are read; a parquet file stores them apart from the bytes.
        table = file.read(columns=[f"{column}.path", "label"])
        paths += _row_paths(shard, [cell["path"] if cell else None for cell in table.column(column).to_pylist()])
        stored += _cells(shard, column, file.metadata)
        written += [_written(label) for label in table.column("label").to_pylist()]
    return replace(named(name, paths, written), stored=stored)


def _written(label: Any) -> str | None:
    """A label as a word. pandas stores a column of whole numbers that has gaps as fractions: 3.0, and NaN for a gap."""
    if label is None or label == -1 or label != label:  # noqa: PLR0124 (only NaN differs from itself)
        return None
    return str(int(label) if isinstance(label, float) and label.is_integer() else label)


def _row_paths(shard: Path, names: Sequence[str | None]) -> list[Path]:
    """The names of a shard's images: their own, and also their row where several have the same name or none."""
    often = Counter(names)
    return [inside(shard, name if name and often[name] == 1 else f"row {row}/{(name or '').lstrip('/')}") for row, name in enumerate(names)]


def _cells(shard: Path, column: str, metadata: Any) -> list[StoredImage]:
    groups = range(metadata.num_row_groups)
    return [ParquetCell(shard, column, group, row) for group in groups for row in range(metadata.row_group(group).num_rows)]


def _image_column(schema: Any, shard: Path) -> str:
    for field in schema:
        parts = {part.name for part in field.type} if field.type.num_fields else set()
        if {"bytes", "path"} <= parts and "label" in schema.names:
            return str(field.name)
    raise InputError(
        f"{shard} has the columns {', '.join(schema.names)}: expected an image column of bytes and path, and a column `label`."
    )
