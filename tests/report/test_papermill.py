"""Plain papermill, without the `ivit` command."""

import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "benchmark.ipynb"


def papermill(tmp_path, *parameters):
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(NOTEBOOK),
        str(tmp_path / "out.ipynb"),
        "-k",
        "python3",
        "--no-progress-bar",
        *parameters,
    ]
    return subprocess.run([*command, "-p", "out", str(tmp_path)], capture_output=True, text=True)


@pytest.mark.slow
def test_a_mistyped_parameter_fails_with_the_sentence(tmp_path):
    done = papermill(tmp_path, "-p", "batch_sise", "2")
    assert done.returncode != 0
    assert "benchmark has no parameter batch_sise (given 2): did you mean batch_sizes?" in done.stderr
    assert not (tmp_path / "benchmark.json").exists()
