"""Progress bars that show after a second and are gone when the work is done."""

import os
from typing import Any

import tqdm
import tqdm.auto

from ivit_helpers.record.run import RUN_ID

# The command that runs a kernel shows its standard error stream in the terminal; elsewhere a notebook has a widget.
Bar: Any = tqdm.tqdm if RUN_ID in os.environ else tqdm.auto.tqdm


class Progress(Bar):  # type: ignore[misc]
    """A bar. Its arguments are tqdm's."""

    def __init__(self, *work: Any, **settings: Any) -> None:
        super().__init__(*work, **{"leave": False, "delay": 1, **settings})
