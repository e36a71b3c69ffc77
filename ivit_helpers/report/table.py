"""Tables that people read: units in the headings, a dash where there is nothing to say."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
from pydantic import BaseModel

NOTHING = "–"


class Table:
    """A table of texts, shown without an index; a column without a value is left out."""

    def __init__(self, rows: Sequence[Mapping[str, str]], caption: str = "") -> None:
        frame = pd.DataFrame(rows)
        self.frame, self.caption = frame.loc[:, ~frame.isin(["", NOTHING]).all()], caption

    def __repr__(self) -> str:
        text: str = self.frame.to_string(index=False)
        return text

    def _repr_html_(self) -> str:
        body = self.frame.to_html(index=False, border=0, na_rep=NOTHING, classes="data", justify="unset")
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        html: str = body.replace("<thead>", caption + "<thead>", 1)
        return html


class Facts:
    """Names and values."""

    def __init__(self, pairs: Mapping[str, str], caption: str = "") -> None:
        self.pairs, self.caption = pairs, caption

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self.pairs.items())

    def _repr_html_(self) -> str:
        cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in self.pairs.items())
        caption = f'<p class="caption">{escape(self.caption)}</p>' if self.caption else ""
        return f'{caption}<dl class="facts">{cells}</dl>'


def facts(part: Mapping[str, Any] | BaseModel, caption: str = "") -> Facts:
    """A part of a record for a reader: names in words, values with their units."""
    pairs = part.model_dump(exclude_none=True) if isinstance(part, BaseModel) else part
    words = {name: value if isinstance(value, str) else readable(name, value) for name, value in pairs.items()}
    return Facts({name.removesuffix("_bytes").removesuffix("_seconds").replace("_", " "): value for name, value in words.items()}, caption)


def readable(name: str, value: Any) -> str:
    """A value of a record for a reader: bytes as GiB, seconds and counts with their unit."""
    if value is None:
        return NOTHING
    if name.endswith("_bytes") or name == "bytes":
        return f"{value / 2**30:.2f} GiB" if value >= 2**28 else f"{value / 2**20:.1f} MiB"
    if name.endswith(("seconds", "_s")):
        return f"{value:.2f} s"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{number:g} ({key})" for key, number in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def number(value: float | None, digits: int = 2, unit: str = "") -> str:
    """A number with its digits and unit, a dash for None."""
    return NOTHING if value is None else f"{value:,.{digits}f}{unit}"
