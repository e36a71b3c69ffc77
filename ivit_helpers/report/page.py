"""Executed notebook and record -> one offline HTML file; all records -> the index."""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
from jinja2 import Environment, FileSystemLoader
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from ivit_helpers.errors import ChecksFailed, InputError
from ivit_helpers.paths import printable
from ivit_helpers.record import NOTEBOOKS, SYMBOLS, AnyRecord, Conclusion, is_used, question, read, write_whole
from ivit_helpers.report.progress import last_state
from ivit_helpers.report.table import facts

TEMPLATE = Path(__file__).resolve().parent / "template"
# Cells with one of these tags are shown by the page itself, from the record: verdict and checks first, environment last.
SHOWN_BY_THE_PAGE = {"environment", "conclusion", "papermill-error-cell-tag"}
# Code that only sets up is shown with the environment, at the end.
SET_UP = {"parameters", "injected-parameters", "set-up"}


def _code_colours() -> dict[str, str]:
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    return {"light": light, "dark": dark}


def _last_line_states(text: str) -> str:
    """What a terminal would still show: of a line that was rewritten with carriage returns, its last state."""
    return "\n".join(filter(None, map(last_state, text.split("\n"))))


def _joined_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Each stream's pieces as one output, without progress bars; a kernel sends a line in as many pieces as it likes."""
    joined: dict[str, NotebookNode] = {}
    kept = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name in joined:
                joined[output.name].text += output.text
                continue
            joined[output.name] = output
        kept.append(output)
    for stream in joined.values():
        stream.text = _last_line_states(stream.text)
    return kept


def _readable(notebook: NotebookNode) -> NotebookNode:
    """A copy for the page: streams joined, cells marked that the page shows elsewhere or that never ran."""
    copy: NotebookNode = nbformat.from_dict(notebook)
    for cell in copy.cells:
        if cell.cell_type == "code":  # the page itself begins with the checks that failed
            cell.outputs = _joined_streams([output for output in cell.outputs if output.get("ename") != ChecksFailed.__name__])
        tags = set(cell.metadata.get("tags", []))
        if "injected-parameters" in tags:  # the folder of the run means nothing to a reader elsewhere
            cell.source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("out = "))
        failed = any(output.output_type == "error" for output in cell.get("outputs", []))
        cell.metadata["set_up"] = bool(SET_UP & tags)
        cell.metadata["hidden_here"] = bool((SHOWN_BY_THE_PAGE | SET_UP) & tags) and not failed
        cell.metadata["did_not_run"] = cell.cell_type == "code" and bool(cell.source.strip()) and cell.execution_count is None
    return copy


def _environment_table(record: AnyRecord) -> str:
    given = ", ".join(f"{name}={value}" for name, value in record.parameters.items() if name != "out")
    origin = record.provenance.model_dump(exclude={"command"}, exclude_none=True) if record.provenance else {}
    return facts({**record.environment, "parameters": given, **origin})._repr_html_()


def report_html(record: AnyRecord, notebook: NotebookNode) -> str:
    """One self-contained page; it refers to nothing outside itself."""
    from nbconvert.exporters import HTMLExporter  # takes a second, which kernels that import this wing are spared

    exporter = HTMLExporter(
        config=Config({"HTMLExporter": {"exclude_anchor_links": True}}),
        extra_template_basedirs=[str(TEMPLATE.parent)],
        template_name=TEMPLATE.name,
        template_file="report.html.j2",
    )
    page = {
        "record": record,
        "question": question(record.notebook),
        "conclusion": Conclusion(record)._repr_html_(),
        "environment": _environment_table(record),
        "colours": _code_colours(),
    }
    html, _ = exporter.from_notebook_node(_readable(notebook), resources={"page": page})
    return str(html)


def write_report(record: AnyRecord, notebook: NotebookNode, path: Path) -> None:
    """Write the page of one run."""
    write_whole(path, report_html(record, notebook))


def _entry(path: Path, root: Path) -> dict[str, Any]:
    page = path.with_suffix(".html")
    entry: dict[str, Any] = {"folder": printable(str(path.parent.relative_to(root))), "notebook": path.stem}
    entry["link"] = quote(os.fsencode(page.relative_to(root))) if page.is_file() else ""
    try:
        found = read(path)
    except InputError:
        return entry | {"started": "", "status": "incomplete", "verdict": "The record cannot be read.", "model": "", "device": ""}
    if not found.concluded and not found.judged_end and is_used(path.parent):
        found.headline, entry["link"] = "It is still running", ""
    return entry | {
        "started": re.sub(r"T(\d\d:\d\d).*", r" \1 UTC", found.started),
        "status": found.status,
        "verdict": found.verdict,
        "model": found.model_name,
        "device": found.device_name,
    }


def write_index(root: Path) -> Path:
    """List every run below `root`, newest first, in root/index.html. The verdicts follow from the checks in the records."""
    paths = [path for path in root.rglob("*.json") if path.stem in NOTEBOOKS and path.is_file()]
    entries = sorted((_entry(path, root) for path in paths), key=lambda entry: (entry["started"], entry["folder"]), reverse=True)
    environment = Environment(loader=FileSystemLoader(TEMPLATE), autoescape=True)
    write_whole(root / "index.html", environment.get_template("index.html.j2").render(entries=entries, symbols=SYMBOLS))
    return root / "index.html"
