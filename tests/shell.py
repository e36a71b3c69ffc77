"""Commands as a reader types them, in the environment that runs the tests."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
CPU = "-p device=cpu -p dtype=float32"
SHORT = "-p batch_sizes=1,2 -p implementations=fused,transformers-sdpa -p warmup=0 -p repeats=3 -p seconds=0.1"
"""Settings of the benchmark that keep it to seconds"""


def shell(command: str, folder: Path = ROOT, ends_with: tuple[int, ...] = (0,)) -> str:
    """Run a command in a folder; gives what it printed. ends_with: the exit codes that are as they should be."""
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    }
    environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode in ends_with, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
