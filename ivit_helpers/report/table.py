"""Tables that people read: units in the headings, a dash where there is nothing to say."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
from pydantic import BaseModel

from ivit_helpers.report.theme import CARDS_BELOW, styled

NOTHING = "–"
LONGEST = 16
"""Letters of a word that stays whole; longer ones, such as paths, are broken anywhere"""
LETTER, GAP, NARROWEST = 8.0, 16.0, 40.0
"""Pixels of a letter, between columns, and of a column of short numbers, which output.css sets"""
LEAST, MOST, LINES = 14, 30, 4
"""Letters on a line of a column of texts, which has about so many lines"""
PHONE, FEW = 340, 3
"""Pixels that there always are, and columns that are cards on a phone at most"""
_NUMBER = r"[+-−±]?[\d,]*\.?\d+(?:e[+-]?\d+|·10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)? ?%?|10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+"
_NUMBERS = re.compile(rf"(?:{_NUMBER})(?: (?:to|of) (?:{_NUMBER}))?(?: \((?:{_NUMBER}) to (?:{_NUMBER})\))?")
"""A number, a range, a share, or a number with its interval"""


class Table:
    """A table of texts, shown without an index; a column without a value is left out."""

    def __init__(self, rows: Sequence[Mapping[str, str]], caption: str = "") -> None:
        frame = pd.DataFrame(rows)
        self.frame, self.caption = frame.loc[:, ~frame.isin(["", NOTHING]).all()], caption

    def __repr__(self) -> str:
        text: str = self.frame.to_string(index=False)
        return text

    def _repr_html_(self) -> str:
        columns = [
            _column(str(name), [str(cell) for cell in self.frame.iloc[:, place]])
            for place, name in enumerate(self.frame.columns)
        ]
        heads = "".join(f'<th scope="col"{_class(kind)}>{escape(name)}</th>' for name, kind, _ in columns)
        cells = [
            [f'<td{_class(kind)} data-label="{escape(name)}">{_breakable(cell)}</td>' for cell in own]
            for name, kind, own in columns
        ]
        body = "".join(f"<tr>{''.join(row)}</tr>" for row in zip(*cells, strict=True))
        caption = f'<p class="caption">{escape(self.caption)}</p>' if self.caption else ""
        name = f' aria-label="{escape(self.caption)}"' if self.caption else ""
        head = f"<thead><tr>{heads}</tr></thead>"
        return styled(
            f'{caption}<div class="scroll"><table class="data{_cards(columns)}"{name}>{head}<tbody>{body}</tbody></table></div>'
        )


def _cards(columns: Sequence[tuple[str, str, list[str]]]) -> str:
    """The class of a table that has cards in place of rows where its columns would be cramped."""
    needed = sum(GAP + max(NARROWEST, LETTER * _letters(*column)) for column in columns)
    steps = CARDS_BELOW[:1] if len(columns) <= FEW else CARDS_BELOW
    return f" cards{next((width for width in steps if needed <= width), steps[-1])}" if needed > PHONE else ""


def _letters(name: str, kind: str, cells: Sequence[str]) -> int:
    """How many letters wide a column must be: numbers stay on one line, texts are broken between words."""
    words = [min(len(word), LONGEST) for text in (name, *cells) for word in text.split()]
    lines = [len(cell) if kind == "n" else min(len(cell), max(LEAST, len(cell) // LINES), MOST) for cell in cells]
    return max(words + lines)


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _breakable(text: str) -> str:
    """A text in HTML whose long words have places to break: after what joins the parts of a path or a name."""
    return re.sub(rf"\S{{{LONGEST + 1},}}", lambda word: re.sub(r"(?<=[/_.=,])(?=\w)", "<wbr>", word[0]), escape(text))


def _column(name: str, cells: list[str]) -> tuple[str, str, list[str]]:
    """Heading, class and cells of a column. Numbers stand on the right, and a unit that all of them have goes into the heading."""
    known = [cell for cell in cells if cell not in ("", NOTHING, "nan", "None")]
    cells = [cell if cell in known else NOTHING for cell in cells]
    if not known or not all(_NUMBERS.fullmatch(cell) for cell in known):
        return name, "long" if any(len(word) > LONGEST for cell in cells for word in cell.split()) else "", cells
    if all("%" in cell for cell in known) and "%" not in name:
        return f"{name}, %", "n", [cell.replace(" %", "").replace("%", "") for cell in cells]
    return name, "n", cells


class Sentence:
    """The answer to a heading's question, in one sentence."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence

    def __repr__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        return styled(f'<p class="answer">{escape(self.sentence)}</p>')


class Facts:
    """Names and values."""

    def __init__(self, pairs: Mapping[str, str], caption: str = "") -> None:
        self.pairs, self.caption = pairs, caption

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self.pairs.items())

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{_breakable(value)}</dd></div>"
            for name, value in self.pairs.items()
            if _short(value)
        )
        cells += "".join(
            f"<div><dt>{escape(name)}</dt><dd><details><summary>{escape(value[:8])}…</summary>{escape(value)}</details></dd></div>"
            for name, value in self.pairs.items()
            if not _short(value)
        )
        caption = f'<p class="caption">{escape(self.caption)}</p>' if self.caption else ""
        return styled(f'{caption}<dl class="facts">{cells}</dl>')


def _short(value: str) -> bool:
    """Whether a value is for reading; a digest is for comparing, and is folded."""
    return not re.search(r"\b[0-9a-f]{40,}\b", value)


def facts(part: Mapping[str, Any] | BaseModel, caption: str = "") -> Facts:
    """A part of a record for a reader: names in words, values with their units."""
    pairs = part.model_dump(exclude_none=True) if isinstance(part, BaseModel) else part
    words = {name: value if isinstance(value, str) else readable(name, value) for name, value in pairs.items()}
    return Facts(
        {
            name.removesuffix("_bytes").removesuffix("_seconds").replace("_", " "): value
            for name, value in words.items()
        },
        caption,
    )


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
