"""Progress leaves nothing behind, wherever it is watched."""

from types import SimpleNamespace

import IPython
import IPython.display
import pytest

from ivit_helpers.record.progress import Progress
from ivit_helpers.record.run import RUN_ID


def work():
    with Progress(total=3, desc="work", delay=0, mininterval=0, disable=False) as progress:
        progress.update(1)


@pytest.fixture
def outputs(monkeypatch):
    """The states of the outputs that a kernel with a front end shows."""
    shown = []
    handle = SimpleNamespace(update=lambda data, raw: shown.append(data))
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setattr(IPython.display, "display", lambda data, raw, display_id: shown.append(data) or handle)
    monkeypatch.delenv(RUN_ID, raising=False)
    return shown


def test_in_a_notebook_a_bar_is_an_output_that_ends_empty(outputs, capsys):
    work()
    assert "work" in outputs[0]["text/plain"]
    assert outputs[-1] == {"text/html": "", "text/plain": ""}
    assert capsys.readouterr().err == ""


def test_under_the_command_a_bar_is_on_the_standard_error_stream(outputs, capsys, monkeypatch):
    monkeypatch.setenv(RUN_ID, "ab12")
    work()
    assert outputs == []
    assert "work" in capsys.readouterr().err
