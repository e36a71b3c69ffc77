"""A device that another package adds by one class and one entry point: nothing in this project knows its name."""

import json
import os
import subprocess
import sys

import pytest

CLASS = '''
from ivit_helpers.device.cpu import CPU


class Pretend(CPU):
    """A pretend card: the CPU under another name, with a peak and a caveat of its own."""

    kind = "pretend"
    peaks = {"Pretend 1": {"invented": 1.5}}

    @classmethod
    def open(cls, index=0, note=""):
        return cls(CPU.open().torch_device, "Pretend 1", note)

    def caveats(self):
        return ["Measured on a pretend card."]
'''


@pytest.fixture
def ivit(tmp_path):
    """Run the `ivit` command where the other package is installed."""
    package = tmp_path / "site"
    (package / "pretend-1.0.dist-info").mkdir(parents=True)
    (package / "pretend_device.py").write_text(CLASS)
    (package / "pretend-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pretend\nVersion: 1.0\n")
    (package / "pretend-1.0.dist-info" / "entry_points.txt").write_text(
        "[ivit_helpers.devices]\npretend = pretend_device:Pretend\n"
    )
    environment = {
        **os.environ,
        "TQDM_DISABLE": "1",
        "PYTHONPATH": os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")]),
    }

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "ivit_helpers", *words], capture_output=True, text=True, env=environment
        )

    return run


def test_the_smoke_notebook_runs_on_it(ivit, model_folder, tmp_path):
    words = ["-pdevice=pretend", f"-pmodel={model_folder}", "-pdtype=float32", "-pbatch_size=1", "-pwarmup=0"]
    done = ivit("run", "smoke", *words, f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "out" / "smoke.json").read_text())
    environment = record["environment"]
    assert (environment["device"], environment["device_type"], environment["peak_tflops"]) == (
        "Pretend 1",
        "pretend",
        {"invented": 1.5},
    )
    assert record["caveats"][0] == "Measured on a pretend card."


def test_a_device_that_nobody_added_is_refused_by_name(ivit):
    done = ivit("check", "-pdevice=imagined")
    assert done.returncode == 2
    assert "device='imagined'" in done.stderr
