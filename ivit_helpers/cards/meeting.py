"""Where processes of torchrun meet: before the work and after it, never within."""

import os
from datetime import timedelta
from types import TracebackType
from typing import Any

MEETING_FILE = "IVIT_MEETING_FILE"
"""Names the file through which the processes of one machine find each other; without it, they use torchrun's store"""
LONGEST = timedelta(days=7)
"""That a process waits for the others: the work lies between two meetings, and torchrun ends those whose partner is gone"""

LOOPBACK = "lo"
"""Linux's name of the interface that other machines cannot reach"""


class Meeting:
    """A group of all processes, over gloo alone: no collective runs on a card, and none needs HCCL or NCCL."""

    def __init__(self) -> None:
        """Wait until all processes are there."""
        from torch import distributed

        self._distributed = distributed
        file = os.environ.get(MEETING_FILE)
        if file is None:
            distributed.init_process_group("gloo", timeout=LONGEST)
            return
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
        rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        store = distributed.FileStore(file, processes)  # type: ignore[attr-defined]
        distributed.init_process_group("gloo", timeout=LONGEST, store=store, rank=rank, world_size=processes)

    def from_first(self, told: Any = None) -> Any:
        """What the first process tells; the others' own is not looked at."""
        held = [told]
        self._distributed.broadcast_object_list(held, src=0)
        return held[0]

    def of_all(self, own: Any) -> list[Any]:
        """What each process tells, by rank, in every process: none goes on before all are here."""
        told: list[Any] = [None] * self._distributed.get_world_size()
        self._distributed.all_gather_object(told, own)
        return told

    def close(self) -> None:
        """Leave the group."""
        self._distributed.destroy_process_group()

    def __enter__(self) -> "Meeting":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
