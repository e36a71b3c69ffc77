"""A notebook that nobody renders afterwards, under plain papermill: its last cell leaves the page, and fails where a check failed."""

import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def papermill(name, folder, *words):
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(NOTEBOOKS / f"{name}.ipynb"),
        str(folder / "out.ipynb"),
        "--log-level",
        "ERROR",
    ]
    given = ["-p", "device", "cpu", "-p", "dtype", "float32", "-p", "out", str(folder / "run"), *words]
    return subprocess.run([*command, *given], capture_output=True, text=True, cwd=folder)


@pytest.mark.slow
def test_plain_papermill_leaves_the_page_and_says_where(tmp_path, model_folder):
    done = papermill("smoke", tmp_path, "-p", "model", str(model_folder), "-p", "warmup", "0")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "run" / "smoke.html").read_text()
    assert "Passed: all" in page
    assert "This cell did not run" not in page
    assert page.count("<figure") >= 2, "what the cells showed is in the page"
    assert str(tmp_path / "run" / "smoke.html") in (tmp_path / "out.ipynb").read_text()


@pytest.mark.slow
def test_plain_papermill_ends_with_1_where_a_check_failed(tmp_path):
    images = tmp_path / "set" / "0"
    images.mkdir(parents=True)
    (images / "a.png").write_text("not an image")
    done = papermill("accuracy", tmp_path, "-p", "data", str(tmp_path / "set"))
    assert done.returncode == 1
    assert "ChecksFailed: Failed: no image was lost: 1 unreadable" in done.stderr
    assert "Failed: no image was lost" in (tmp_path / "run" / "accuracy.html").read_text()
