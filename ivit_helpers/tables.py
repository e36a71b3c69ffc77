"""Tables that people read: units in the headings, a dash where there is nothing to say."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from ivit_helpers.operators import Audit
from ivit_helpers.published import PublishedAccuracy

Row = Mapping[str, Any]
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


def facts(pairs: Mapping[str, Any], caption: str = "") -> Facts:
    """A record's part for a reader: names in words, values with their units."""
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


def benchmark(rows: Sequence[Row]) -> Table:
    """Every configuration of a sweep, those that failed included."""
    return Table([_benchmark_row(row) for row in rows], "Every configuration; a dash where the samples are too few, or nothing is known")


def _benchmark_row(row: Row) -> dict[str, str]:
    latency = row.get("latency_ms") or {}
    shares = {"of vendor peak": "share_of_vendor_peak", "of measured matmul": "share_of_measured_matmul"}
    return {
        "batch": str(row["batch_size"]),
        "implementation": row["implementation"],
        "images/s": number(row.get("images_per_s")),
        "ms/image": number(row.get("ms_per_image")),
        **{f"{name} ms": number(latency.get(name)) for name in ("p50", "p90", "p99", "mean")},
        "n": str(latency.get("n", NOTHING)),
        "first call s": number(row.get("first_call_s"), 3),
        "peak MiB": number(row["peak_memory_bytes"] / 2**20, 0) if row.get("peak_memory_bytes") else NOTHING,
        "TFLOP/s": number(row.get("tflops"), 3),
        **{heading: number(100 * row[key], 1, " %") if row.get(key) else NOTHING for heading, key in shares.items()},
        "relative error": f"{row['relative_error']:.1e}" if row.get("relative_error") is not None else NOTHING,
        "failed with": row.get("error") or "",
    }


def operators(calls: Mapping[tuple[str, str], int], notes: Mapping[str, str]) -> Table:
    """Operators, most called first; what failed or fell back stands on top, with its note."""
    rows = [
        {
            "operator": name,
            "calls": str(count),
            "where": where,
            "kind": "fused" if Audit.is_fused(name) else "plain",
            "note": notes.get(name, ""),
        }
        for (name, where), count in sorted(calls.items(), key=lambda item: (item[0][0] not in notes, -item[1]))
    ]
    called = {name for name, _ in calls}
    missed = [
        {"operator": name, "calls": NOTHING, "where": NOTHING, "kind": NOTHING, "note": note}
        for name, note in notes.items()
        if name not in called
    ]
    return Table([*missed, *rows], "One forward pass of one image; views compute nothing and are left out")


def memory(seen: Mapping[str, int], caption: str) -> Table:
    """Peaks of memory by what they are peaks of."""
    return Table([{"what": what, "memory": memory} for what, memory in facts(seen).pairs.items()], caption)


def accounting(row: Row) -> Table:
    """Where every image of a set went; the outcomes add up to the images."""
    names = ("images", "scored", "unreadable", "missing", "unlabelled", "nonfinite")
    return Table([{name: f"{row[name]:,}" for name in names}], "Every image ends in exactly one outcome")


def accuracy(row: Row, published: PublishedAccuracy | None = None) -> Table:
    """Top-1 and top-5 with intervals, over both denominators, beside what was published."""
    caption = f"Published: {published.source}; not measured here. Its difference has the 95 % interval of this run" if published else ""
    return Table([_accuracy_row(row, best, published) for best in (1, 5) if row[f"top{best}"] is not None], caption)


def _accuracy_row(row: Row, best: int, published: PublishedAccuracy | None) -> dict[str, str]:
    key = f"top{best}"
    there = getattr(published, key) if published else None
    points = [NOTHING if there is None else f"{100 * (row[key + end] - there):+.2f}" for end in ("", "_low", "_high")]
    return {
        "measure": f"top-{best}",
        "of the scored": f"{row[key]:.2%}",
        "95 % interval": f"{row[key + '_low']:.2%} to {row[key + '_high']:.2%}",
        "right": f"{row[key + '_hits']:,} of {row['scored']:,}",
        "of all images": f"{row[key + '_hits'] / row['images']:.2%}",
        "published": NOTHING if there is None else f"{there:.3%}",
        "difference, points": NOTHING if there is None else f"{points[0]} ({points[1]} to {points[2]})",
    }
