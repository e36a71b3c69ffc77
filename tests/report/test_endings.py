"""Real signals to a real `ivit run`: the batch ends, the page says so, and no kernel is left."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from ivit_helpers.record.folder import RunFolder
from ivit_helpers.record.parameters import SmokeParameters
from ivit_helpers.record.record import read
from ivit_helpers.report import execute
from ivit_helpers.report.ending import NAMES, Stop
from ivit_helpers.report.page import write_index

PATIENCE = 120  # seconds to wait for a process that should end at once


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_batch_with_a_red_page_and_no_kernel(number, code, tmp_path):
    command = [
        sys.executable,
        "-m",
        "ivit_helpers",
        "run",
        "benchmark",
        "accuracy",
        "-p",
        "device=cpu",
        "-p",
        "seconds=600",
    ]
    process = subprocess.Popen(
        [*command, "-p", "repeats=100000", "--out", str(tmp_path)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TQDM_MININTERVAL": "0"}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        for line in process.stderr:
            if "[1/2] benchmark" in line:
                break
        while not (tmp_path / "benchmark.json").exists():
            assert process.poll() is None, process.stderr.read()
        kernels = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == code, err
    assert "Traceback" not in out + err
    assert f"benchmark: Did not finish: stopped by {NAMES[number]}; " in out
    assert not psutil.wait_procs(kernels, timeout=PATIENCE)[1], "a kernel is left"
    record = read(tmp_path / "benchmark.json")
    assert record.status == "incomplete"
    assert record.reason.startswith(f"stopped by {NAMES[number]}; ")
    assert f"Did not finish: stopped by {NAMES[number]}; " in (tmp_path / "benchmark.html").read_text()
    assert not (tmp_path / "accuracy.json").exists(), "the next notebook was started"


def test_a_signal_before_the_kernel_starts_is_not_lost(tmp_path):
    stop, before = Stop(signal.SIGTERM), psutil.Process().children()
    found = execute.run_notebook("smoke", SmokeParameters(device="cpu"), tmp_path, stop)
    assert found.status == "incomplete"
    assert found.reason.startswith("stopped by SIGTERM; ")
    assert set(psutil.Process().children()) <= set(before), "a kernel was started"


def test_a_batch_that_was_killed_is_seen_by_the_next_run_and_leaves_no_kernel(tmp_path):
    socket_folders = Path(tempfile.gettempdir())
    command = [sys.executable, "-m", "ivit_helpers", "run", "smoke", "-p", "device=cpu", "-p", "model=random:300m-448"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    )
    while not (tmp_path / "run" / "smoke.json").exists():
        assert process.poll() is None
    kernels = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert not psutil.wait_procs(kernels, timeout=PATIENCE)[1], "a kernel is left"
    assert list(socket_folders.glob(f"ivit-{process.pid}-*"))
    found = execute.run_notebook("smoke", SmokeParameters(device="cpu"), tmp_path / "next", Stop(signal.SIGTERM))
    assert found.status == "incomplete"
    assert not list(socket_folders.glob(f"ivit-{process.pid}-*")), "the killed run's sockets are left"
    assert "Did not finish: it has not reached its conclusion" in write_index(tmp_path).read_text()
    begun = RunFolder(SmokeParameters(out=str(tmp_path / "run")))
    assert read(begun.set_aside / "smoke.json").status == "incomplete"
    begun.close()
