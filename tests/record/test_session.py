"""Stepping through a notebook by hand: a parameter that is changed after it was read is noticed."""

import pytest
from IPython.core.interactiveshell import InteractiveShell

from ivit_helpers.record.session import changed

PARAMETERS = "# Parameters\nmodel = 'tiny'\nbatch_size = 8\nout = {out!r}"
SET_UP = (
    "from ivit_helpers.record.parameters import SmokeParameters, of_notebook\nfrom ivit_helpers.record.run import start\n"
    "asked = of_notebook(SmokeParameters, globals())\n"
    "run = start(asked)"
)


@pytest.fixture
def shell(tmp_path):
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(history_load_length=0)
    shell.run_cell(PARAMETERS.format(out=str(tmp_path)), store_history=True)
    shell.run_cell(SET_UP, store_history=True).raise_error()
    yield shell
    InteractiveShell.clear_instance()


def test_a_changed_parameter_is_said_after_every_cell_until_the_set_up_cell_runs_again(shell, capsys):
    shell.run_cell("batch_size = 4", store_history=True)
    assert "batch_size is 4, and the run uses 8" in capsys.readouterr().out
    shell.run_cell("1 + 1", store_history=True)
    assert "Run the cells again from the set-up cell on." in capsys.readouterr().out
    shell.run_cell(SET_UP, store_history=True).raise_error()
    shell.run_cell("2 + 2", store_history=True)
    assert "Changed since" not in capsys.readouterr().out


def test_nothing_is_said_while_nothing_has_changed(shell, capsys):
    shell.run_cell("x = 1", store_history=True)
    assert "Changed since" not in capsys.readouterr().out


def test_every_changed_parameter_is_named():
    assert changed({"model": "tiny", "warmup": 3}, {"model": "other", "warmup": 3}).startswith(
        "Changed since the parameters were read: model is 'other', and the run uses 'tiny'."
    )
