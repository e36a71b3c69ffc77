"""What the processes of these tests do: `python -m tests.work SETTINGS`. It imports no torch unless they shall meet."""

import os
import signal
import sys
from pathlib import Path

from ivit_helpers.distributed import Place, broadcast, gather, group, serve
from ivit_helpers.errors import InputError


def work(place: Place, given: dict[str, str]) -> None:
    """Leave a file that names the place, and then do what the settings say for this rank."""
    Path(given["folder"], f"place-{place.rank}").write_text(f"{place} {os.environ['OMP_NUM_THREADS']}")
    told = given.get(str(place.rank), "")
    if told == "refuse":
        raise InputError("card 1 is out:\ncheck it")
    if told == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if told == "raise":
        raise RuntimeError("a bug")
    if told == "wait":
        Path(given["folder"], "waits").touch()
        signal.pause()
    if told == "meet":
        with group():
            first = broadcast(f"from {place.rank}")
            all_of_them = gather(place.rank)
        Path(given["folder"], f"met-{place.rank}").write_text(f"{first} {all_of_them}")
    print(f"process {place.rank} is done")


if __name__ == "__main__":
    serve(work, together=sys.argv[1].endswith("together.json"))
