"""What torchrun starts for each card: it starts the work in a process of its own, and keeps how that ended.

    python -m ivit_helpers.cards.process LOG apart|together MODULE WORDS...

torchrun ends all processes when one of them fails. Work that is shared out image by image loses nothing when one card dies, so `apart`
hides a failure from torchrun, and the other cards finish their shares. Processes that wait for one another are started `together`.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from ivit_helpers.cards.lifeline import end_with_starter, lifeline


def main(log: str, way: str, *work: str) -> int:
    """Run the work and return the exit code for torchrun. What the work prints is in LOG-<rank>.log, its exit code in LOG-<rank>.ended."""
    end_with_starter()
    name = f"{log}-{os.environ['RANK']}"
    asked_to_end: list[int] = []
    child: list[subprocess.Popen[bytes]] = []

    def end(number: int, _frame: object) -> None:
        asked_to_end.append(number)
        for process in child:
            process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with Path(f"{name}.log").open("wb") as output:
        child.append(
            subprocess.Popen(
                [sys.executable, "-m", *work], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=lifeline()
            )
        )
        if asked_to_end:  # before it was there
            child[0].terminate()
        code = child[0].wait()
    Path(f"{name}.ended").write_text(str(code))
    failed = code if code >= 0 else 128 - code
    return failed if way == "together" or asked_to_end else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
