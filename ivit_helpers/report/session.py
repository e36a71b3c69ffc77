"""The end of a notebook: the conclusion, and the page, whoever runs it."""

import os
from typing import Any

import nbformat
from nbformat import NotebookNode

from ivit_helpers.errors import ChecksFailed
from ivit_helpers.paths import NOTEBOOKS
from ivit_helpers.record import AnyRecord, Conclusion, Run
from ivit_helpers.report.page import SET_UP, write_report
from ivit_helpers.report.theme import styled

RENDERED_LATER = "IVIT_RENDERED_LATER"
"""Set for kernels whose page is made from the executed notebook when they have ended"""


def conclude(run: "Run[Any]", headline: str) -> None:
    """Draw a run's conclusion, show it, and say where record and page are. Raises ChecksFailed where a check failed.

    `ivit run` makes the page from the executed notebook. In JupyterLab and under plain papermill it is made here, from the cells of
    this session and what they showed.
    """
    from IPython.display import display

    conclusion = run.finish(headline)
    display(_Shown(conclusion))  # type: ignore[no-untyped-call]
    if RENDERED_LATER not in os.environ:
        page = run.folder / f"{run.record.notebook}.html"
        write_report(run.record, _session_notebook(run.record), page)
        print(f"Record: {run.path}\nPage:   {page}")
    run.close()
    if conclusion.record.status == "failed":
        raise ChecksFailed(conclusion.record.ending)


class _Shown:
    """A conclusion with the style that a notebook lacks."""

    def __init__(self, conclusion: Conclusion) -> None:
        self.conclusion = conclusion

    def __repr__(self) -> str:
        return repr(self.conclusion)

    def _repr_html_(self) -> str:
        return styled(self.conclusion._repr_html_())


def _session_notebook(record: AnyRecord) -> NotebookNode:
    """The notebook of the project, with this session's sources and results in its code cells."""
    from IPython import get_ipython

    shell: Any = get_ipython()
    notebook = nbformat.read(NOTEBOOKS / f"{record.notebook}.ipynb", as_version=4)
    history: dict[int, str] = dict(enumerate(shell.user_ns.get("In", []))) if shell else {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            _fill(cell, history, shell)
    return notebook


def _fill(cell: NotebookNode, history: dict[int, str], shell: Any) -> None:
    """Give a cell its last execution of this session; cells that set up count as run, whatever was typed into them."""
    numbers = [number for number, source in history.items() if source.strip() == cell.source.strip()]
    if not numbers:
        cell.execution_count = 0 if SET_UP & set(cell.metadata.get("tags", [])) or _is_last(cell) else None
        return
    cell.execution_count = number = numbers[-1]
    shown = shell.user_ns.get("Out", {}).get(number)
    if shown is not None:
        data, metadata = shell.display_formatter.format(shown)
        cell.outputs = [nbformat.v4.new_output("execute_result", data, metadata=metadata, execution_count=number)]


def _is_last(cell: NotebookNode) -> bool:
    return "conclusion" in cell.metadata.get("tags", [])
