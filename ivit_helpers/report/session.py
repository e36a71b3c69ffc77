"""The end of a notebook: the conclusion, and the page, whoever runs it."""

import os
from typing import Any

import nbformat
from nbformat import NotebookNode

from ivit_helpers.errors import ChecksFailed
from ivit_helpers.paths import NOTEBOOKS
from ivit_helpers.record.run import Conclusion, Run
from ivit_helpers.report.page import SET_UP, write_report
from ivit_helpers.report.theme import styled

RENDERED_LATER = "IVIT_RENDERED_LATER"
"""Set for kernels whose page is made from the executed notebook when they have ended"""
EVERY_CELL = "every cell ran"


def conclude(run: "Run[Any]", headline: str) -> None:
    """Draw a run's conclusion, show it, and say where record and page are. Raises ChecksFailed where a check failed.

    `ivit run` makes the page from the executed notebook. In JupyterLab and under plain papermill it is made here, from the cells of
    this session and what they showed.
    """
    from IPython.display import display

    notebook = None if RENDERED_LATER in os.environ else _session_notebook(run)
    if notebook:
        _check_cells(run, notebook)
    conclusion = run.finish(headline)
    display(_Shown(conclusion))  # type: ignore[no-untyped-call]
    if notebook:
        page = run.folder / f"{run.record.notebook}.html"
        write_report(run.record, notebook, page)
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


def _check_cells(run: "Run[Any]", notebook: NotebookNode) -> None:
    """Whether all cells ran since this run began, each after those above it: else they may have used what another run left in memory."""
    if run.first_cell is None:
        return
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    missing = [cell.source.strip().splitlines()[-1] for cell in code if cell.execution_count is None]
    first = f", the first of them `{missing[0]}`" if missing else ""
    detail = f"{len(missing)} of {len(code)} code cells did not run as the notebook has them, from the set-up cell on and in order{first}"
    run.check(EVERY_CELL, None if missing else True, detail, deciding=True)


def _session_notebook(run: "Run[Any]") -> NotebookNode:
    """The notebook of the project, with this run's sources and results in its code cells."""
    from IPython import get_ipython

    shell: Any = get_ipython()
    notebook = nbformat.read(NOTEBOOKS / f"{run.record.notebook}.ipynb", as_version=4)
    history: dict[int, str] = dict(enumerate(shell.user_ns.get("In", []))) if shell else {}
    reached = run.first_cell or 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            reached = _fill(cell, history, shell, reached)
    return notebook


def _fill(cell: NotebookNode, history: dict[int, str], shell: Any, reached: int) -> int:
    """Give a cell its last execution of this run; cells that set up count as run, whatever was typed into them.

    reached: the number of the execution after which all cells above had run. Returns the one after which this cell has run, too.
    """
    numbers = [
        number for number, source in history.items() if number > reached and source.strip() == cell.source.strip()
    ]
    if not numbers:
        cell.execution_count = 0 if SET_UP & set(cell.metadata.get("tags", [])) or _is_last(cell) else None
        return reached
    cell.execution_count = number = numbers[-1]
    shown = shell.user_ns.get("Out", {}).get(number)
    if shown is not None:
        data, metadata = shell.display_formatter.format(shown)
        cell.outputs = [nbformat.v4.new_output("execute_result", data, metadata=metadata, execution_count=number)]
    return numbers[0]


def _is_last(cell: NotebookNode) -> bool:
    return "conclusion" in cell.metadata.get("tags", [])
