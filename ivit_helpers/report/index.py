"""All records -> the index: one row for each run, with the figures of its notebooks."""

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader

from ivit_helpers.errors import InputError
from ivit_helpers.paths import REPORTS, printable
from ivit_helpers.record.folder import is_used
from ivit_helpers.record.parameters import NOTEBOOKS
from ivit_helpers.record.record import (
    SYMBOLS,
    AccuracyRecord,
    AnyRecord,
    BenchmarkRecord,
    CompareRecord,
    ExploreRecord,
    SmokeRecord,
    read,
    write_whole,
)
from ivit_helpers.report.key_figure import claimed
from ivit_helpers.report.table import NOTHING
from ivit_helpers.report.theme import TEMPLATE, style
from ivit_helpers.report.ticks import said

COLUMNS = {"speed": "images/s", "latency": "latency, ms", "top1": "top-1, %", "error": "relative error"}


def index_root(folder: Path) -> Path:
    """The folder of the index that lists a run: reports/ for runs below it, else the run's own folder."""
    return REPORTS if REPORTS in folder.resolve().parents else folder


def write_index(root: Path) -> Path:
    """List every run below `root`, newest first, in root/index.html. The verdicts follow from the checks in the records."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in root.rglob("*.json"):
        if path.stem in NOTEBOOKS and path.is_file():
            folders[path.parent].append(path)
    runs = [_run(folder, paths, root) for folder, paths in folders.items()]
    runs.sort(key=lambda run: (run["started"], run["folder"]), reverse=True)
    environment = Environment(loader=FileSystemLoader(TEMPLATE), autoescape=True)
    page = environment.get_template("index.html.j2").render(
        runs=runs, columns=COLUMNS, symbols=SYMBOLS, style=style(), nothing=NOTHING
    )
    write_whole(root / "index.html", page)
    return root / "index.html"


def _run(folder: Path, paths: list[Path], root: Path) -> dict[str, Any]:
    """One row: the notebooks of a folder with their verdicts, what they share, and their figures."""
    notebooks = []
    run: dict[str, Any] = {
        "folder": printable(str(folder.relative_to(root))),
        "started": "",
        "model": "",
        "device": "",
        "dtype": "",
    }
    figures: dict[str, str] = {}
    caveats: dict[str, None] = {}
    for path in sorted(paths, key=lambda path: list(NOTEBOOKS).index(path.stem)):
        page = path.with_suffix(".html")
        one = {"notebook": path.stem, "link": quote(os.fsencode(page.relative_to(root))) if page.is_file() else ""}
        notebooks.append(one)
        try:
            found = read(path)
        except InputError:
            one |= {"status": "incomplete", "verdict": "The record cannot be read."}
            continue
        if not found.concluded and not found.judged_end and is_used(folder):
            found.headline, one["link"] = "It is still running", ""
        one |= {"status": found.status, "verdict": found.ending}
        caveats |= dict.fromkeys(found.caveats)
        figures |= _figures(found, figures)
        run["started"] = max(run["started"], re.sub(r"T(\d\d:\d\d).*", r" \1 UTC", found.started))
        dtype = found.model.dtype if found.model else ""
        for name, value in (("model", found.model_name), ("device", found.device_name), ("dtype", dtype)):
            run[name] = run[name] or value
    red = any(one["status"] in {"failed", "incomplete"} for one in notebooks)
    return run | {"red": red, "notebooks": notebooks, "caveats": list(caveats), "figures": figures}


def _figures(record: AnyRecord, known: dict[str, str]) -> dict[str, str]:
    """A record's share of the columns. A benchmark's speed counts more than a smoke run's, and a smoke run's error more than another's."""
    if isinstance(record, AccuracyRecord):
        top1 = record.rows[0].top1 if claimed(record) else None
        return {} if top1 is None else {"top1": f"{100 * top1:.2f}"}
    if isinstance(record, CompareRecord | ExploreRecord):
        return {}
    row = record.best if isinstance(record, BenchmarkRecord) else next(iter(record.rows), None)
    found = {}
    if row and row.images_per_s is not None and row.latency_ms is not None:
        latency = row.latency_ms.mean if row.latency_ms.p50 is None else row.latency_ms.p50
        found = {"speed": said(row.images_per_s), "latency": said(latency)}
    if row and row.relative_error is not None and (isinstance(record, SmokeRecord) or "error" not in known):
        found["error"] = said(row.relative_error)
    return found
