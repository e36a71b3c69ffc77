"""Runs a notebook's own cells in this process, which spares the seconds that a kernel takes to start."""

import ast
import json
from types import SimpleNamespace
from typing import Any

from ivit_helpers.paths import NOTEBOOKS


def executed(name: str, times: int = 1, **given: Any) -> SimpleNamespace:
    """The names that a notebook's code cells leave behind, with `given` instead of its own parameters.

    What a cell shows is turned into HTML, as JupyterLab would; `shown` holds it in the order of the cells.
    times: how often each cell after the parameters runs, as when someone steps through the notebook and repeats cells.
    """
    namespace: dict[str, Any] = {}
    shown: list[str] = []
    for cell in json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            for _ in range(1 if "parameters" in cell["metadata"].get("tags", []) else times):
                answer = _run("".join(cell["source"]), namespace)
            shown += [answer._repr_html_()] if hasattr(answer, "_repr_html_") else []
        if "parameters" in cell["metadata"].get("tags", []):
            namespace |= given
    return SimpleNamespace(**namespace, shown=shown)


def _run(source: str, namespace: dict[str, Any]) -> Any:
    """The value of a cell's last line; None where that is a statement."""
    *statements, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        exec(source, namespace)
        return None
    exec(compile(ast.Module(statements, []), "cell", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
