"""Executed notebook and record -> one offline HTML file."""

import os
import re
from html import escape
from pathlib import Path
from urllib.parse import quote

import nbformat
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from ivit_helpers.errors import ChecksFailed
from ivit_helpers.record.parameters import NOTEBOOKS, question
from ivit_helpers.record.record import SYMBOLS, AnyRecord, write_whole
from ivit_helpers.record.run import Conclusion
from ivit_helpers.report.embedded import link, record_in
from ivit_helpers.report.index import index_root, write_index
from ivit_helpers.report.key_figure import key_figures
from ivit_helpers.report.progress import last_state
from ivit_helpers.report.table import facts
from ivit_helpers.report.theme import TEMPLATE, bare, style

__all__ = ["TEMPLATE", "record_in", "report_html", "write_report"]
# Cells with one of these tags are shown by the page itself, from the record: verdict and checks first, environment last.
SHOWN_BY_THE_PAGE = {"environment", "conclusion", "papermill-error-cell-tag"}
# Code that only sets up is shown with the environment, at the end.
SET_UP = {"parameters", "injected-parameters", "set-up"}
WIDGET = "application/vnd.jupyter.widget-view+json"


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


def _still(output: NotebookNode) -> NotebookNode:
    """An output without the widget that a kernel gave it life: a page shows what it shows as HTML."""
    output.get("data", {}).pop(WIDGET, None)
    return output


def _readable(notebook: NotebookNode) -> NotebookNode:
    """A copy for the page: streams joined, cells marked that the page shows elsewhere or that never ran."""
    copy: NotebookNode = nbformat.from_dict(notebook)
    for cell in copy.cells:
        if cell.cell_type == "code":  # the page itself begins with the checks that failed
            cell.outputs = _joined_streams(
                [_still(output) for output in cell.outputs if output.get("ename") != ChecksFailed.__name__]
            )
        tags = set(cell.metadata.get("tags", []))
        if "injected-parameters" in tags:  # the folder of the run means nothing to a reader elsewhere
            cell.source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("out = "))
        failed = any(output.output_type == "error" for output in cell.get("outputs", []))
        cell.metadata["set_up"] = bool(SET_UP & tags)
        cell.metadata["hidden_here"] = bool((SHOWN_BY_THE_PAGE | SET_UP) & tags) and not failed
        cell.metadata["did_not_run"] = (
            cell.cell_type == "code" and bool(cell.source.strip()) and cell.execution_count is None
        )
    return copy


def _environment_table(record: AnyRecord) -> str:
    given = ", ".join(f"{name}={value}" for name, value in record.parameters.items() if name != "out")
    origin = record.provenance.model_dump(exclude={"command"}, exclude_none=True) if record.provenance else {}
    return bare(facts({**record.environment, "parameters": given, **origin})._repr_html_())


def report_html(record: AnyRecord, notebook: NotebookNode, folder: Path | None = None) -> str:
    """One self-contained page; it refers to nothing but the files beside it in `folder`, the folder that it is for."""
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
        "symbol": SYMBOLS[record.status],
        "checks": Conclusion(record).checks,
        "symbols": SYMBOLS,
        "figures": key_figures(record),
        "environment": _environment_table(record),
        "style": style(),
        "colours": _code_colours(),
        "link": link(record),
        "files": _files(record, folder),
        "siblings": _siblings(record.notebook, folder),
    }
    html, _ = exporter.from_notebook_node(_readable(notebook), resources={"page": page})
    return _with_contents(bare(str(html)))


def _with_contents(html: str) -> str:
    """The same page with an id on each heading, and a list of links to them."""
    links: list[str] = []

    def named(found: re.Match[str]) -> str:
        words = re.sub(r"<[^>]*>|&[^;]*;", "", found[1])
        name = f"{len(links) + 1}-" + "-".join(re.findall(r"[a-z0-9]+", words.lower())[:8])
        links.append(f'<li><a href="#{name}">{found[1]}</a></li>')
        return f'<h2 id="{name}">{found[1]}</h2>'

    html = re.sub(r"<h2>(.*?)</h2>", named, html, flags=re.DOTALL)
    return html.replace(CONTENTS, f'<nav class="contents" aria-label="Contents"><ol>{"".join(links)}</ol></nav>', 1)


CONTENTS = "<!-- contents -->"
_SIBLINGS = re.compile(r"<!-- siblings -->.*?<!-- /siblings -->", re.DOTALL)


def _link(name: str, words: str) -> str:
    return f'<a href="{quote(os.fsencode(name))}">{escape(words)}</a>'


def _files(record: AnyRecord, folder: Path | None) -> list[str]:
    """Links to the record and the tables that are in the page's folder."""
    names = [f"{record.notebook}.json", *record.tables]
    return [_link(name, name) for name in names if folder and Path(name).name == name and (folder / name).is_file()]


def _siblings(notebook: str, folder: Path | None) -> str:
    """Links to the index and to the pages of the other notebooks, as far as they are there."""
    if folder is None:
        return ""
    index = os.path.relpath(index_root(folder).resolve() / "index.html", folder.resolve())
    links = [_link(index, "all runs")]
    for name in NOTEBOOKS:
        if name == notebook:
            links.append(f'<span aria-current="page">{name}</span>')
        elif (folder / f"{name}.html").is_file():
            links.append(_link(f"{name}.html", name))
    return " ".join(links)


def write_report(record: AnyRecord, notebook: NotebookNode, path: Path) -> None:
    """Write the page of one run, let the pages beside it link to it, and bring the index up to date."""
    write_whole(path, report_html(record, notebook, path.parent))
    for other in NOTEBOOKS:
        beside = path.parent / f"{other}.html"
        if beside != path and beside.is_file():
            old = beside.read_text("utf-8", "replace")
            new = _SIBLINGS.sub(lambda _, other=other: _marked(_siblings(other, path.parent)), old, count=1)  # type: ignore[misc]
            if new != old:
                write_whole(beside, new)
    write_index(index_root(path.parent))


def _marked(links: str) -> str:
    return f"<!-- siblings -->{links}<!-- /siblings -->"
