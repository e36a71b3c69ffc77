"""Every command of the two README files, as a reader runs it on a laptop. Settings are added where a run would take longer than it need."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ivit_helpers.record import read

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
COMMANDS = [
    line.split("  #")[0].strip()
    for name in ("README.md", "README.zh.md")
    for line in re.findall(r"^    (\S.*)$", (ROOT / name).read_text("utf-8"), re.MULTILINE)
]
MODEL = "-p device=cpu -p dtype=float32"
BENCHMARK = "-p batch_sizes=1 -p implementations=fused -p warmup=0 -p repeats=3 -p seconds=0.1"
ELSEWHERE = {command for command in COMMANDS if "device=npu" in command or "random:6b" in command}
"""These need an NPU, the published weights or an hour: test_project.py asks the program whether it takes them."""
RECURSIVE = "make test"
"""This command runs the test that is here"""
IN_A_BROWSER = "make lab"
"""Named in a sentence; tests/browser starts its server"""


def run(command, folder, exit_code=0):
    """Run a command in `folder`, whose commands are those of this environment, as in a shell whose PATH has it first."""
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    environment["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == exit_code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    """The run that a reader has after the first commands: what RUN stands for."""
    folder = tmp_path_factory.mktemp("readme") / "run"
    run(f"ivit run smoke benchmark -p model=random:tiny-224 {MODEL} {BENCHMARK} --out {folder}", ROOT)
    return folder


def test_the_two_files_have_the_same_commands():
    half = len(COMMANDS) // 2
    assert COMMANDS[:half] == COMMANDS[half:]
    assert {"make report", RECURSIVE} < set(COMMANDS)


TESTED = {
    "make report", RECURSIVE, "ivit check", "ivit run smoke benchmark -p model=random:tiny-224", "ivit run accuracy -p limit=60",
    "ivit compare RUN RUN", "ivit card RUN --lang zh", "papermill notebooks/smoke.ipynb out.ipynb -p device cpu",
}  # fmt: skip


def test_every_command_has_a_test_here_or_needs_what_no_laptop_has():
    assert set(COMMANDS) == TESTED | ELSEWHERE
    assert not TESTED & ELSEWHERE


def test_make_test_runs_these_tests():
    planned = run(f"make --dry-run MAKE=true {RECURSIVE.removeprefix('make ')}", ROOT)
    assert "pytest" in planned
    assert "lint-imports" in planned
    assert "true test-npu" in planned


@pytest.mark.slow
def test_make_report_leaves_three_pages_and_the_index(tmp_path):
    """.venv, which this command sets up first, is the environment that runs this test."""
    words = f"{MODEL} {BENCHMARK} -p limit=20 --out {tmp_path}"
    run(f"make --assume-old=.venv/.installed-dev BIN={BIN} report ARGS='{words}'", ROOT)
    assert {"index.html", "smoke.html", "benchmark.html", "accuracy.html"} <= {path.name for path in tmp_path.iterdir()}


def test_ivit_check_names_the_device():
    assert re.fullmatch(r"\S+ \(.*\), (bfloat16|float16|float32)", run("ivit check", ROOT).strip())


@pytest.mark.slow
def test_ivit_run_leaves_pages_and_records(a_run):
    assert {record.model.name for record in (read(a_run / "smoke.json"), read(a_run / "benchmark.json"))} == {"random:tiny-224"}
    assert (a_run / "benchmark.html").is_file()


@pytest.mark.slow
def test_ivit_run_accuracy_evaluates_as_many_images_as_were_asked_for(tmp_path):
    run(f"ivit run accuracy -p limit=60 {MODEL} --out {tmp_path}", ROOT)
    assert read(tmp_path / "accuracy.json").rows[0].images == 60


@pytest.mark.slow
def test_ivit_compare_takes_the_run_twice_and_finds_nothing_worse(a_run, tmp_path):
    run(f"ivit compare {a_run} {a_run} --out {tmp_path}", ROOT)
    assert (tmp_path / "compare.html").is_file()


@pytest.mark.slow
def test_ivit_card_writes_a_card_in_chinese(a_run):
    assert "## " in (card := run(f"ivit card {a_run} --lang zh", ROOT))
    assert "吞吐" in card


@pytest.mark.slow
def test_papermill_runs_a_notebook_by_itself(tmp_path):
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    run(f"papermill notebooks/smoke.ipynb out.ipynb -p device cpu -p warmup 0 -p out {tmp_path / 'run'}", tmp_path)
    assert (tmp_path / "out.ipynb").is_file()
    assert read(tmp_path / "run" / "smoke.json").concluded
