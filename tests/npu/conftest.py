"""Tests that need an NPU: they run the real torch_npu on the rig of tests/npu_rig (`make test-npu`)."""

import ctypes
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ivit_helpers.__main__ import main
from ivit_helpers.device import device, selection

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def npu() -> device.Device:
    return selection.select("npu")


@pytest.fixture
def virtual_clock(npu, monkeypatch):
    """Time that only the device's work moves on; what reads the host's clock reads this one. Gives the clock, in seconds."""
    cann = ctypes.CDLL("libascendcl.so")
    cann.rig_now.restype = ctypes.c_double
    cann.rig_virtual_clock(1)
    yield lambda: cann.rig_now() / 1e3
    cann.rig_virtual_clock(0)


@pytest.fixture(scope="session")
def ivit():
    """Run the `ivit` command in a process of its own, on the rig, with knobs; gives the completed process."""

    def run(*words: str, **knobs: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "TQDM_DISABLE": "1", **knobs}
        return subprocess.run(
            [sys.executable, "-m", "ivit_helpers", *words],
            capture_output=True,
            text=True,
            env=environment,
            cwd=ROOT,
            check=False,
        )

    return run


def checked(words: tuple[str, ...], knobs: dict[str, str]) -> tuple[int, str]:
    """The exit code of `ivit check` and what it prints."""
    os.environ.update(knobs)
    result = CliRunner().invoke(main, ["check", *words])
    return result.exit_code, result.output


@pytest.fixture(scope="session")
def check():
    """`checked` in a process for each call: the driver starts anew in each, and what it needs is imported once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch_npu", "ivit_helpers.smoke", __name__])
    with context.Pool(1, maxtasksperchild=1) as pool:
        yield lambda *words, **knobs: pool.apply(checked, (words, knobs))
