"""One process of several: it loads the model onto its own card, answers its share of the images, and writes its own journal."""

import socket
import traceback
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ivit_helpers.accuracy.classes import name_classes
from ivit_helpers.accuracy.earlier import journal_path, read_before, unanswered
from ivit_helpers.accuracy.journal import Journal
from ivit_helpers.accuracy.key import differences, key_of
from ivit_helpers.accuracy.predictions import answered, losing_a_card
from ivit_helpers.device.selection import select
from ivit_helpers.device.several import device_of
from ivit_helpers.distributed import Place, broadcast, gather, group
from ivit_helpers.errors import InputError, describe_error
from ivit_helpers.images.labelled_images import LabelledImages
from ivit_helpers.images.layouts import image_set
from ivit_helpers.record.parameters import AccuracyParameters
from ivit_helpers.record.progress import Progress
from ivit_helpers.weights import loading, sources
from ivit_helpers.weights.loading import Loaded


def answer(
    loaded: Loaded,
    images: LabelledImages,
    groups: Sequence[Sequence[int]],
    journal: Journal,
    asked: AccuracyParameters,
    processes: int = 1,
    *,
    shown: bool = True,
) -> None:
    """Classify the images of these groups into a journal, which is closed at the end. Raises as `answered`.

    processes: that do the same on this machine. shown: whether a bar shows the progress.
    """
    with (
        journal,
        Progress(total=sum(map(len, groups)), desc=images.name, unit="image", disable=not shown or None) as progress,
        closing(answered(loaded, images, asked.batch_size, asked.workers, groups, processes)) as found,
    ):
        for rows, batch in found:
            journal.append(rows, batch)
            progress.update(len(rows))


def begun(told: Any, process: int, card: str) -> Journal:
    """The journal of a process. told: what all processes were told."""
    by = {name: told[name] for name in ("run", "started", "launch", "alone")}
    path = journal_path(Path(told["folder"]), told["launch"], process)
    return Journal(path, told["key"], {**by, "process": process, "card": card, "host": socket.gethostname()})


def share(told: Any, images: int, batch_size: int, place: Place) -> list[Sequence[int]]:
    """The batches of one process: every so many-th of those that no earlier launch has answered."""
    left = unanswered(read_before(Path(told["folder"]), told["launch"]), images, batch_size)
    return left[: told["most"]][place.rank :: place.processes]


def work(place: Place, told: Any) -> None:
    """Do the share of this process. Raises InputError, and CardFailed where its card does not do it."""
    if not Path(told["folder"]).is_dir():
        raise InputError(
            f"{told['folder']} is not on {socket.gethostname()}: several machines need a shared folder as out=FOLDER."
        )
    asked = AccuracyParameters(**told["parameters"])
    wanted = told["devices"][place.local_rank] if told["devices"] else device_of(asked.device, place.local_rank)
    accelerator = select(wanted)
    with losing_a_card(accelerator):
        loaded = loading.load(
            sources.find(asked.model, asked.head), accelerator, accelerator.dtype(asked.dtype), asked.verify
        )
    images = image_set(asked)
    loaded = name_classes(asked, loaded, images)
    changed = differences(told["key"], key_of(loaded, images))
    if changed:
        raise InputError(
            f"{accelerator} would answer something else than the run ({changed}): give every process the same."
        )
    groups = share(told, len(images), asked.batch_size, place)
    answer(loaded, images, groups, begun(told, place.rank, str(accelerator)), asked, place.local_processes, shown=False)


def join(place: Place) -> None:
    """Be one of the processes that a user's own torchrun has started: wait for the first one's run, do a share, and tell how it went."""
    with group():
        told, reason = broadcast(), ""
        try:
            if told:
                work(place, told)
        except InputError as error:
            reason = str(error)
        except Exception as error:
            traceback.print_exc()
            reason = describe_error(error)
        gather(reason)
