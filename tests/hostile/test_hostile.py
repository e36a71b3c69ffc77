"""Whatever is put in, the kit answers it or says one sentence about it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import table
from tests.hostile.case import Case

ROOT = Path(__file__).parents[2]


class Server:
    """The process that runs the cases."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def run(self, case: Case, folder: Path, report: Path) -> dict:
        self.process.stdin.write(json.dumps({"case": case.name, "folder": str(folder), "report": str(report)}) + "\n")
        self.process.stdin.flush()
        ended = json.loads(self.process.stdout.readline())
        return ended | (json.loads(report.read_text()) if report.exists() else {})


@pytest.fixture(scope="session")
def server():
    started = Server()
    yield started
    started.process.communicate()


@pytest.mark.parametrize("case", table.CASES, ids=lambda case: case.name.replace(" ", "_"))
def test_an_input_ends_in_an_answer_or_a_sentence(server, case, tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    found = server.run(case, folder, tmp_path / "report.json")
    assert found["ended"] == 0, "ended by a signal, which is also how too much time or memory ends"
    assert "traceback" not in found, found["traceback"]
    assert found["peak_gib"] <= case.gib
    assert "Traceback" not in found["said"]
    if case.ends == "refused":
        assert found["code"] == 2, found["said"]
        assert not found["began"], "something was started before the refusal"
        assert all(line.startswith("ivit: ") for line in found["said"].splitlines()), found["said"]
        assert re.search(case.says, found["said"]), found["said"]
        return
    assert found["status"] == case.ends, found["record"][-2000:]
    assert re.search(case.says, found["record"] + found["said"]), found["record"][-2000:]


def test_every_case_has_a_name_of_its_own():
    names = [case.name for case in table.CASES]
    assert len(names) == len(set(names))
