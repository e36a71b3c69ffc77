"""Several processes by torchrun, the convention on Ascend and CUDA alike. Importing this module does not import torch.

The processes meet over gloo, which every build of torch has, so no collective runs on a card. On one machine they find each other by
files in a private folder: torchrun's usual store listens on the network, and whoever reaches it could make it execute code.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from ivit_helpers.device.several import cores
from ivit_helpers.errors import InputError, describe_error

STARTER, MEETING_FILE, ENDINGS = "IVIT_STARTED_BY", "IVIT_MEETING_FILE", "IVIT_ENDINGS"
LONGEST = timedelta(days=7)
"""That a process waits for the others: all the work may lie between two meetings"""
PATIENCE = 60
"""Seconds in which processes may end by themselves; torchrun kills after 30 those that do not"""
KILLED = "it was killed, most often by the system to free memory"
STOPPED = "it was stopped, because another process ended or the run was interrupted"


@dataclass(frozen=True)
class Place:
    """A process among those that torchrun started. Ranks count from 0; the local ones are those of this machine."""

    rank: int
    processes: int
    local_rank: int
    local_processes: int


def place() -> Place | None:
    """Which of torchrun's processes this one is, from the variables that torchrun sets; None where it is alone."""
    values = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")]
    if not all(value.isdecimal() for value in values) or int(values[1]) < 2:
        return None
    return Place(*map(int, values))


@contextmanager
def group() -> Iterator[None]:
    """Be in a group of all processes, which waits until all of them are there."""
    from torch import distributed

    where: Any = {}
    if file := os.environ.get(MEETING_FILE):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        where = {"init_method": f"file://{file}", "rank": int(os.environ["RANK"])}
        where["world_size"] = int(os.environ["WORLD_SIZE"])
    distributed.init_process_group("gloo", timeout=LONGEST, **where)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def broadcast(value: Any = None) -> Any:
    """The first process's value, in every process of the group."""
    from torch import distributed

    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def gather(value: Any) -> list[Any]:
    """The values of all processes of the group by rank, in every process: none goes on before all are here."""
    from torch import distributed

    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def launch(
    module: str, settings: Path, processes: int, log: Path, watch: Callable[[], None] = lambda: None
) -> list[str]:
    """Run `python -m MODULE SETTINGS`, which calls `serve`, in so many processes of this machine.

    Returns for each process why it failed, empty for one that did its work. log: the file for what the processes print. watch: called
    now and then while they work. However this call ends, no process is left.
    """
    with tempfile.TemporaryDirectory(prefix="ivit-") as private, log.open("wb") as output:
        own = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        own |= {STARTER: str(os.getpid()), MEETING_FILE: f"{private}/processes", ENDINGS: private}
        threads = {"OMP_NUM_THREADS": str(max(1, cores() // processes))}  # unless the user has said how many
        words = ["--nnodes=1", f"--nproc-per-node={processes}", "--max-restarts=0", "--monitor-interval=0.1"]
        words += ["--local-addr=127.0.0.1", "--rdzv-id=ivit", "--rdzv-backend=c10d", "--rdzv-conf=store_type=file"]
        words += [f"--rdzv-endpoint={private}/torchrun", "-m", module, str(settings)]
        torchrun = subprocess.Popen(
            [sys.executable, "-m", "ivit_helpers.distributed", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=threads | os.environ | own,
        )
        try:
            while torchrun.poll() is None:
                watch()
                try:
                    torchrun.wait(0.2)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            torchrun.terminate()
            try:
                torchrun.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                torchrun.kill()
                torchrun.wait()
        endings = [Path(private, str(rank)) for rank in range(processes)]
        return [ending.read_text("utf-8") if ending.exists() else KILLED for ending in endings]


def serve(work: Callable[[Place, Any], None], *, together: bool = False) -> NoReturn:
    """Do the work of a process that `launch` started, and end it. work: takes the place and what the settings file holds.

    torchrun ends all processes where one fails. After an InputError, of a lost card for example, this process ends as if it had done
    its work, so that the others go on; unless they wait for one another (together).
    """
    end_with_starter()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    here, reason, code = place() or Place(0, 1, 0, 1), "", 0
    try:
        work(here, json.loads(Path(sys.argv[1]).read_text("utf-8")))
    except InputError as error:
        reason, code = str(error), int(together)
    except SystemExit as end:
        reason, code = STOPPED, int(end.code or 0)
    except Exception as error:
        traceback.print_exc()
        reason, code = describe_error(error), 1
    Path(os.environ[ENDINGS], str(here.rank)).write_text(reason, "utf-8")
    sys.exit(code)


def end_with_starter() -> None:
    """From now on, be killed by Linux when the process that started this one ends, so that none is left on a card by a kill."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != int(os.environ.get(STARTER, os.getppid())):  # it had ended before
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":  # torchrun, as a process that ends with its starter
    end_with_starter()
    os.environ[STARTER] = str(os.getpid())
    from torch.distributed.run import main

    main()
