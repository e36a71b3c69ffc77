"""How a run ends is what its record and its page say. Small notebooks stand in for the real ones; the last test runs those."""

import gc
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from ivit_helpers.__main__ import main
from ivit_helpers.record import record
from ivit_helpers.record.parameters import SmokeParameters
from ivit_helpers.report import execute, page
from ivit_helpers.report.ending import Stop

BEGIN = (
    "from ivit_helpers.record.parameters import SmokeParameters, of_notebook\nfrom ivit_helpers.record.run import start\n"
    "run = start(of_notebook(SmokeParameters, globals()))\n"
    "run.check('first', True, 'fine', deciding=True)"
)
FINISH = "run.finish('key figure 42')"


def notebook_of(cells, kernel):
    """The smoke notebook with these code cells after its parameters."""
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}}
    )
    parameters = nbformat.v4.new_code_cell("# Parameters\nmodel = 'tiny'\nout = ''", metadata={"tags": ["parameters"]})
    notebook.cells = [parameters, *map(nbformat.v4.new_code_cell, cells)]
    return notebook


def ended(folder, *cells, kernel="python3", timeout=None):
    """Run a notebook of these cells in `folder`; gives its record and its page."""
    (folder / "notebooks").mkdir()
    nbformat.write(notebook_of(cells, kernel), folder / "notebooks" / "smoke.ipynb")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(execute, "NOTEBOOKS", folder / "notebooks")
        found = execute.run_notebook("smoke", SmokeParameters(), folder / "run{1}", Stop(), timeout)
    return found, (folder / "run{1}" / "smoke.html").read_text()


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run that names a kernel that is not there, shows a progress bar and passes: its folder, its record and its page."""
    folder = tmp_path_factory.mktemp("whole")
    this_python = "import sys; run.check('python', True, sys.executable)"
    progress = "for i in range(5): print(f'\\r{i} of 5 |##|', end='', file=sys.stderr)\nprint('\\r   ', end='', file=sys.stderr)"
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setattr(tempfile, "tempdir", str(folder))
        return folder, *ended(folder, BEGIN, this_python, progress, FINISH, kernel="a-kernel-that-is-not-there")


def test_a_whole_run_passes_whatever_kernel_the_notebook_names(whole_run):
    _, found, page = whole_run
    assert (found.status, found.headline) == ("passed", "key figure 42")
    assert "Passed: all 3 checks. key figure 42." in page


def test_a_run_leaves_no_sockets_behind(whole_run):
    gc.collect()
    assert {entry.name for entry in whole_run[0].iterdir()} == {"notebooks", "run{1}"}


def test_the_kernel_is_this_very_python(whole_run):
    assert {check.name: check.detail for check in whole_run[1].checks}["python"] == sys.executable


def test_progress_bars_are_not_in_the_page(whole_run):
    page = whole_run[2]
    assert "of 5 |##|" not in page.split("<summary>messages")[-1] or "messages" not in page


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "DeadKernelError"),
        ("import sys; sys.exit(0)", "SystemExit|kernel"),
        ("raise RuntimeError('the card fell out')", "RuntimeError: the card fell out"),
        ("while True: pass", "[Tt]ime"),
    ],
    ids=["killed", "sys.exit", "exception", "timeout"],
)
def test_a_run_that_stops_early_is_red_and_its_missing_cells_are_marked(tmp_path, cell, reason):
    found, page = ended(tmp_path, BEGIN, cell, FINISH, timeout=4 if "while" in cell else None)
    assert found.status == "incomplete"
    [check] = [check for check in found.checks if check.name == execute.RAN_TO_ITS_END]
    assert check.status == "failed"
    assert re.search(reason, check.detail)
    assert "This cell did not run" in page
    assert "Did not finish" in page
    assert "Passed" not in page


def test_a_failed_check_fails_the_run(tmp_path):
    found, page = ended(tmp_path, BEGIN, "run.check('second', False, 'off by 3')", FINISH)
    assert found.status == "failed"
    assert "Failed: second: off by 3." in page


@pytest.fixture(scope="module")
def broken_run(whole_run, tmp_path_factory):
    """A run that ends with an InputError before its record begins, in the folder of an earlier run that passed."""
    folder = tmp_path_factory.mktemp("broken")
    shutil.copytree(whole_run[0] / "run{1}", folder / "run{1}")
    return ended(folder, "from ivit_helpers.errors import InputError\nraise InputError('Give it a folder.')")


def test_an_earlier_record_in_the_same_folder_does_not_speak_for_a_broken_run(broken_run):
    found, _ = broken_run
    assert found.status == "incomplete"
    assert not found.headline


def test_an_input_error_reaches_the_reader_as_one_sentence(broken_run):
    found, page = broken_run
    assert "Give it a folder; " in found.checks[-1].detail
    assert '<pre class="error">InputError: Give it a folder.\n</pre>' in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "benchmark", "-p", "batch_sise=2"], "did you mean batch_sizes?"),
        (["run", "benchmark", "-p", "batch_sizes=[0]"], "Allowed: batch sizes to sweep"),
        (["run", "smoke", "-p", "model=/no/such"], "is not a folder on this machine"),
        (["run", "accuracy", "-p", "data=/no/such"], "There is no folder /no/such"),
        (["run", "smoke", "-p", "image_path=/no/such.jpg"], "does not exist"),
    ],
)
def test_bad_parameters_end_with_2_and_start_nothing(arguments, sentence, tmp_path):
    result = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert sentence in result.output
    assert not (tmp_path / "out").exists()


def test_the_index_lists_every_run_and_survives_a_broken_record(tmp_path):
    for name, status in (("one", "passed"), ("two", "failed")):
        folder = tmp_path / name
        folder.mkdir()
        record.write(record.SmokeRecord(started="2026-01-02T03:04:05+00:00", status=status), folder / "smoke.json")
        (folder / "smoke.html").write_text("page")
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "accuracy.json").write_text('{"schema": 1, "note')
    index = page.write_index(tmp_path).read_text()
    assert 'href="one/smoke.html"' in index
    assert 'href="two/smoke.html"' in index
    assert "The record cannot be read" in index


def shown_outside(page: str) -> list[str]:
    """Every address in the page that a browser would fetch."""
    return [
        address
        for address in re.findall(r'(?:src|href|srcset)="([^"]*)"|url\(([^)]*)\)|@import', page)
        if re.match("https?:|//", "".join(address))
    ]


@pytest.mark.slow
def test_one_command_leaves_the_three_reports(tmp_path):
    chosen = [
        "-pdevice=cpu",
        "-pdtype=float32",
        "-pbatch_size=2",
        "-pbatch_sizes=[1,2]",
        "-prepeats=3",
        "-plimit=24",
        "-pwarmup=0",
    ]
    command = [sys.executable, "-m", "ivit_helpers", "run", *chosen, "--out", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[2], env={**os.environ, "TQDM_DISABLE": "1"}
    )
    assert done.returncode in (0, 1), done.stderr
    for name in ("smoke", "benchmark", "accuracy"):
        found, page = record.read(tmp_path / f"{name}.json"), (tmp_path / f"{name}.html").read_text()
        failed = [check for check in found.checks if check.status == "failed"]
        assert not [check for check in failed if check.name != "accuracy"], (
            failed
        )  # 24 images are too few to demand 97 %
        assert found.status != "incomplete"
        assert not shown_outside(page)
        assert "<script" not in page
        assert len(page) < 1_000_000
        images = re.findall(r"<img [^>]*>", page)
        assert all(re.search('alt="[^"]{5,}"', image) for image in images)
        assert len(images) + page.count("<svg") >= 2
        assert "prefers-color-scheme: dark" in page
        assert f"{name}:" in done.stdout
    rows = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    assert {(row["implementation"], row["batch_size"]) for row in rows} == {
        (i, b) for i in ("fused", "plain", "transformers-sdpa") for b in (1, 2)
    }
    assert all(row["images_per_s"] > 0 and row["relative_error"] < 1e-5 for row in rows)
    assert rows[0]["ratio"]["baseline"] == "transformers-sdpa"
    assert (tmp_path / "accuracy_predictions.csv").read_text().count("\n") == 25
