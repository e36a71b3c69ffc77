"""Start a process for each card with torchrun, wait for all of them, and say how each ended."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ivit_helpers.cards.lifeline import lifeline
from ivit_helpers.cards.meeting import MEETING_FILE
from ivit_helpers.device.several import cores

EVERY_SECONDS = 0.2
PATIENCE = 60
"""Seconds in which the processes may end by themselves; torchrun kills after 30 those that do not"""
LAST_BYTES = 4096
SYSTEM = ", most often by the system to free memory"


@dataclass(frozen=True)
class Ended:
    """How the process of one card ended."""

    process: int
    """Its number, from 0 on"""
    code: int | None
    """Its exit code, negative for a signal; None where it was killed with the process that watched it"""
    reason: str
    """Empty for one that did its work, else in words"""


def launch(
    module: str,
    settings: Path,
    processes: int,
    log: Path,
    watch: Callable[[], None] = lambda: None,
    *,
    together: bool = False,
) -> list[Ended]:
    """Run `python -m MODULE SETTINGS` in so many processes of this machine, and return how each ended.

    The module calls `serve`. log: how the names of the files begin that hold what each process prints. watch: called now and then while
    they work. together: end all of them when one fails, which processes that meet need; else the others go on. However this call ends,
    by an interrupt too, no process is left.
    """
    with tempfile.TemporaryDirectory(prefix="ivit-cards-") as meeting_place:
        return _launched(
            module, settings, processes, log, watch, "together" if together else "apart", Path(meeting_place)
        )


def _launched(
    module: str, settings: Path, processes: int, log: Path, watch: Callable[[], None], way: str, meeting_place: Path
) -> list[Ended]:
    """meeting_place: a folder that this user alone can enter. torchrun meets through a file in it: its usual store listens on the network,
    and whoever reaches that could make it execute code.
    """
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // processes))}  # unless the user has said how many
    own = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), MEETING_FILE: str(meeting_place / "processes")}
    environment = threads | lifeline() | own | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    words = [
        "--nnodes=1", f"--nproc-per-node={processes}", "--local-addr=127.0.0.1", "--max-restarts=0", "--monitor-interval=0.1",
        "--rdzv-backend=c10d", "--rdzv-conf=store_type=file", f"--rdzv-endpoint={meeting_place / 'torchrun'}", "--rdzv-id=ivit",
        "-m", "ivit_helpers.cards.process", str(log), way, module, str(settings),
    ]  # fmt: skip
    with Path(f"{log}.torchrun.log").open("wb") as output:
        torchrun = subprocess.Popen(
            [sys.executable, "-m", "ivit_helpers.cards.torchrun", *words],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
        )  # fmt: skip
        try:
            while True:
                try:
                    torchrun.wait(EVERY_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    watch()
        finally:
            end(torchrun)
    return [_ended(number, log) for number in range(processes)]


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to end, wait for it, and kill it where it does not; what it started ends with it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ended(number: int, log: Path) -> Ended:
    try:
        code = int(Path(f"{log}-{number}.ended").read_text())
    except (OSError, ValueError):
        said = _last_lines([Path(f"{log}-{number}.log"), Path(f"{log}.torchrun.log")])
        return Ended(number, None, f"it was killed, or ended with torchrun{f' ({said[0]})' if said else ''}")
    if code < 0:
        name = signal.Signals(-code).name
        return Ended(number, code, f"it was killed by {name}{SYSTEM if name == 'SIGKILL' else ''}")
    said = _last_lines([Path(f"{log}-{number}.log")])
    return Ended(number, code, "" if code == 0 else said[0] if said else f"it ended with {code}")


def _last_lines(logs: Sequence[Path]) -> list[str]:
    """The last line that is not empty of each file that has one."""
    found = []
    for log in logs:
        try:
            lines = log.read_bytes()[-LAST_BYTES:].decode(errors="replace").split("\n")
        except OSError:
            continue
        found += [line.strip() for line in lines if line.strip()][-1:]
    return found
