"""Stepping through a notebook by hand: a verdict is only about cells that ran for the run that it concludes."""

import json

import pytest
from IPython.core.interactiveshell import InteractiveShell

from ivit_helpers.paths import NOTEBOOKS
from ivit_helpers.record.record import read

PARAMETERS = (
    "# Parameters\ndevice = 'cpu'\ndtype = 'float32'\nworkers = 0\nmodel = {model!r}\ndata = {data!r}\nout = {out!r}"
)
CELLS = [
    "".join(cell["source"])
    for cell in json.loads((NOTEBOOKS / "accuracy.ipynb").read_text())["cells"]
    if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])
]
LOADING = next(source for source in CELLS if source.startswith("loaded = "))


@pytest.fixture
def step():
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(history_load_length=0)

    def run(*sources):
        for source in sources:
            shell.run_cell(source, store_history=True).raise_error()

    yield run
    InteractiveShell.clear_instance()


def test_cells_that_ran_in_order_pass_also_where_some_ran_twice(step, tmp_path):
    step(PARAMETERS.format(model="tiny", data="digits", out=str(tmp_path)), *CELLS[:-1], LOADING, CELLS[-1])
    record = read(tmp_path / "accuracy.json")
    assert record.status == "passed", record.verdict
    assert "This cell did not run" not in (tmp_path / "accuracy.html").read_text()


def test_a_model_that_another_run_left_in_memory_is_not_judged(step, tmp_path):
    step(PARAMETERS.format(model="tiny", data="digits", out=str(tmp_path / "first")), *CELLS)
    after = [source for source in CELLS if source != LOADING]
    step(PARAMETERS.format(model="random:tiny-224", data="synthetic", out=str(tmp_path / "second")), *after)
    record = read(tmp_path / "second" / "accuracy.json")
    assert record.status == "not_judged"
    assert "1 of 14 code cells did not run" in record.reason
    assert LOADING.splitlines()[-1] in record.reason
    assert "This cell did not run" in (tmp_path / "second" / "accuracy.html").read_text()
