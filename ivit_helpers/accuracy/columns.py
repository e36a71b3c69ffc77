"""Rows of a table in typed columns as they are made: about 80 bytes an image, where a dict takes 1,000."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

BLOCK = 4096
"""Rows that become columns together"""
PIECE = 20_000
"""Rows that are written together"""


def _dtype(column: str) -> str:
    """The smallest dtype that holds a column of the predictions exactly; scores and margins are computed in float32."""
    if column == "label" or column.startswith("class"):
        return "Int32"
    if column == "margin" or column.startswith("score"):
        return "float32"
    return {"orientation": "int8", "cmyk": "bool"}.get(column, "object")


class Columns:
    """A table that is made row by row."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._rows: list[Mapping[str, Any]] = []
        self._blocks: list[pd.DataFrame] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row; what it lacks is empty in the table."""
        self._rows.append(row)
        if len(self._rows) >= BLOCK:
            self._settle()

    def table(self) -> pd.DataFrame:
        """All rows in the order in which they came."""
        self._settle()
        table = pd.concat(self._blocks, ignore_index=True)
        self._blocks = [table]
        return table

    def _settle(self) -> None:
        block = pd.DataFrame(self._rows).reindex(columns=self._names)
        block = block.astype({name: _dtype(name) for name in self._names})
        for name in ("outcome", "reason"):  # the same few texts again and again
            block[name] = pd.Series([sys.intern(text) for text in block[name]], dtype=object)
        if self._rows or not self._blocks:
            self._blocks.append(block)
        self._rows = []


def in_pieces(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """A table of predictions in pieces, one at least, with the numbers as a file has them: in all digits of float64."""
    wide = {name: "float64" for name in table.columns if _dtype(name) == "float32"}
    for first in range(0, max(1, len(table)), PIECE):
        yield table.iloc[first : first + PIECE].astype(wide)
