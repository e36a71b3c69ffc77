"""What the processes of these tests do: `python -m tests.cards.work SETTINGS`. It imports no torch unless they shall meet."""

import os
import signal
from pathlib import Path

from ivit_helpers.cards.meeting import Meeting
from ivit_helpers.cards.place import Place
from ivit_helpers.cards.worker import serve
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
        with Meeting() as meeting:
            first = meeting.from_first(f"from {place.rank}")
            all_of_them = meeting.of_all(place.rank)
        Path(given["folder"], f"met-{place.rank}").write_text(f"{first} {all_of_them}")
    print(f"process {place.rank} is done")


if __name__ == "__main__":
    serve(work)
