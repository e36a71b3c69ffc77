"""The side of a process that `launch` started."""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ivit_helpers.cards.lifeline import end_with_starter
from ivit_helpers.cards.place import Place, place
from ivit_helpers.errors import InputError

FAILED = 3


def serve(work: Callable[[Place, Any], None]) -> NoReturn:
    """Do the work of this process and end it. work: takes the place among the processes and what the settings file holds.

    SIGTERM ends the work as sys.exit() does, so that files are closed. The last line that is printed says why the work failed: an
    InputError in its own words.
    """
    end_with_starter()
    signal.signal(signal.SIGTERM, _end)
    try:
        work(place() or Place(0, 1, 0, 1), json.loads(Path(sys.argv[1]).read_text("utf-8")))
    except InputError as error:
        print(*str(error).splitlines(), file=sys.stderr)
        sys.exit(FAILED)
    sys.exit(0)


def _end(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: files are being closed
    print("it was stopped by SIGTERM", file=sys.stderr)
    sys.exit(128 + number)
