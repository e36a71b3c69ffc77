"""Every command of the two README files, as a reader runs it on a laptop, with settings that keep it short.

`make lab`, which a sentence of theirs names, is started by tests/browser.
"""

import re

import pytest

from ivit_helpers.record.parameters import MODEL_NOTEBOOKS
from ivit_helpers.record.record import read
from tests.shell import CPU, ROOT, SHORT, shell

COMMANDS = [
    line.split("  #")[0].strip()
    for name in ("README.md", "README.zh.md")
    for line in re.findall(r"^    (\S.*)$", (ROOT / name).read_text("utf-8"), re.MULTILINE)
]
ELSEWHERE = {command for command in COMMANDS if "device=npu" in command or "random:6b" in command}
"""These need an NPU, the published weights or an hour: test_project.py asks the program whether it takes them."""


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    """The run that a reader has after the first commands: what RUN stands for."""
    folder = tmp_path_factory.mktemp("readme") / "run"
    shell(f"ivit run smoke benchmark -p model=random:tiny-224 {CPU} {SHORT} -p batch_sizes=1 --out {folder}")
    return folder


def test_the_two_files_have_the_same_commands():
    half = len(COMMANDS) // 2
    assert COMMANDS[:half] == COMMANDS[half:]
    assert {"make report", "make test"} < set(COMMANDS)


TESTED = {
    "make report",
    "make test",
    "ivit check",
    "ivit run smoke benchmark -p model=random:tiny-224",
    "ivit run accuracy -p limit=60",
    "ivit compare RUN RUN",
    "ivit card RUN --lang zh",
    "papermill notebooks/smoke.ipynb out.ipynb -p device cpu",
}


def test_every_command_has_a_test_here_or_needs_what_no_laptop_has():
    assert set(COMMANDS) == TESTED | ELSEWHERE
    assert not TESTED & ELSEWHERE


def test_make_test_runs_these_tests():
    planned = shell("make --dry-run MAKE=true test")
    assert "pytest" in planned
    assert "lint-imports" in planned
    assert "true test-npu" in planned


@pytest.mark.slow
def test_make_report_leaves_the_pages_and_the_index(report):
    assert {"index.html", *(f"{name}.html" for name in MODEL_NOTEBOOKS)} <= {path.name for path in report.iterdir()}


def test_ivit_check_names_the_device():
    assert re.fullmatch(r"\S+ \(.*\), (bfloat16|float16|float32)", shell("ivit check").strip())


@pytest.mark.slow
def test_ivit_run_leaves_pages_and_records(a_run):
    assert {record.model.name for record in (read(a_run / "smoke.json"), read(a_run / "benchmark.json"))} == {
        "random:tiny-224"
    }
    assert (a_run / "benchmark.html").is_file()


@pytest.mark.slow
def test_ivit_run_accuracy_evaluates_as_many_images_as_were_asked_for(tmp_path):
    shell(f"ivit run accuracy -p limit=60 {CPU} --out {tmp_path}")
    assert read(tmp_path / "accuracy.json").rows[0].images == 60


@pytest.mark.slow
def test_ivit_compare_takes_the_run_twice_and_finds_nothing_worse(a_run, tmp_path):
    shell(f"ivit compare {a_run} {a_run} --out {tmp_path}")
    assert (tmp_path / "compare.html").is_file()


@pytest.mark.slow
def test_ivit_card_writes_a_card_in_chinese(a_run):
    assert "## " in (card := shell(f"ivit card {a_run} --lang zh"))
    assert "吞吐" in card


@pytest.mark.slow
def test_papermill_runs_a_notebook_by_itself(tmp_path):
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    shell(f"papermill notebooks/smoke.ipynb out.ipynb -p device cpu -p warmup 0 -p out {tmp_path / 'run'}", tmp_path)
    assert (tmp_path / "out.ipynb").is_file()
    assert read(tmp_path / "run" / "smoke.json").concluded
