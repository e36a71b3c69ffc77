"""JupyterLab, driven as a user drives it: open a notebook, change its parameters, run all cells, choose a theme."""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from playwright.sync_api import Locator, Page

from ivit_helpers.paths import NOTEBOOKS

OPEN = """async path => {
  const panel = await window.jupyterapp.commands.execute('docmanager:open', {path, factory: 'Notebook'});
  await panel.context.ready;
  await panel.sessionContext.ready;
  window.jupyterapp.shell.activateById(panel.id);
}"""
RUN_ALL = """async () => {
  await window.jupyterapp.commands.execute('notebook:run-all-cells');
  return JSON.stringify(window.jupyterapp.shell.currentWidget.content.model.toJSON());
}"""
CLOSE = """async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.sessionContext.shutdown();
  panel.dispose();
}"""
THEME = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"


class Lab:
    """JupyterLab in a page of a browser, with one notebook open at a time."""

    def __init__(self, page: Page, served: Path) -> None:
        self.page = page
        self.served = served
        self._open = False
        page.wait_for_function("window.jupyterapp !== undefined")
        page.evaluate("async () => { await window.jupyterapp.restored; }")

    def open(self, name: str, **given: Any) -> None:
        """Open a copy of a notebook of the project, with parameters typed into its parameters cell, and wait for its kernel."""
        self.close()
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        for parameter, value in given.items():
            cell.source = typed(cell.source, parameter, value)
        nbformat.write(notebook, self.served / f"{name}.ipynb")
        self.page.evaluate(OPEN, f"{name}.ipynb")
        self._open = True

    def run_all(self) -> NotebookNode:
        """Run all cells; gives the notebook with what they showed, as it would be saved."""
        notebook: NotebookNode = nbformat.from_dict(json.loads(self.page.evaluate(RUN_ALL)))
        return notebook

    def close(self) -> None:
        """End the kernel of the open notebook, and close it without saving."""
        if self._open:
            self.page.evaluate(CLOSE)
        self._open = False

    def theme(self, name: str) -> None:
        """Choose "Light" or "Dark" in JupyterLab's settings."""
        self.page.evaluate(THEME, f"JupyterLab {name}")
        self.page.wait_for_function(f"document.body.dataset.jpThemeName === 'JupyterLab {name}'")
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")  # it covers the page while it fades

    @property
    def outputs(self) -> Locator:
        """What the cells of the open notebook show."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea-output")


def typed(source: str, name: str, value: Any) -> str:
    """The source of a parameters cell after somebody changed one value; a name that it lacks is added at its end."""
    line = rf"^({name}(?:: \w+)? = ).*?(?=  #|$)"
    changed, count = re.subn(line, lambda found: f"{found[1]}{value!r}", source, count=1, flags=re.MULTILINE)
    return changed if count else f"{source}\n{name} = {value!r}"
