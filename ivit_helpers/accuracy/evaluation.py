"""Classify a set on one card or on several, go on with what earlier runs answered, and put all answers into one table, each image once."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ivit_helpers.accuracy.card_table import Ended, cards_table, note_cards
from ivit_helpers.accuracy.earlier import (
    Earlier,
    interruptions,
    journal_path,
    journals,
    next_launch,
    take_up,
    unanswered,
)
from ivit_helpers.accuracy.journal import Followed, Kept, merged, read_journal
from ivit_helpers.accuracy.key import key_of
from ivit_helpers.accuracy.predictions import TIMES, Predictions, as_predictions
from ivit_helpers.accuracy.worker import answer, begun
from ivit_helpers.device.several import named_devices
from ivit_helpers.distributed import broadcast, gather, group, launch
from ivit_helpers.distributed import place as this_place
from ivit_helpers.errors import InputError
from ivit_helpers.images.labelled_images import LabelledImages
from ivit_helpers.record.parameters import AccuracyParameters
from ivit_helpers.record.progress import Progress
from ivit_helpers.record.provenance import command
from ivit_helpers.record.record import AccuracyRecord, write_whole
from ivit_helpers.record.run import Run
from ivit_helpers.weights.loading import Loaded

WORKER = "ivit_helpers.accuracy.process"
MOST_ALONE = 64
"""Batches that the first card answers alone, where its speed is to be compared with"""


def evaluate(
    run: Run[AccuracyRecord], loaded: Loaded, images: LabelledImages, asked: AccuracyParameters
) -> Predictions:
    """The answers to all images of a set, each once, from this run and from earlier ones into the same folder that did not finish.

    With several cards the weights leave this process, whose card another process takes. Raises InputError where images are left
    unanswered, with what happened and the command that goes on.
    """
    key = key_of(loaded, images)
    earlier = take_up(run.folder, key)
    _note_earlier(run, earlier, asked)
    launched = _Launches(run, loaded, images, asked, key)
    left = unanswered(earlier.kept, len(images), asked.batch_size)
    began, first = time.time(), next_launch(run.folder)
    ended = launched.all_of(left)
    kept = [read_journal(path) for path in journals(run.folder)]
    run.keep_until_concluded([*journals(run.folder), *launched.files])
    own = [
        journal
        for journal in kept
        if journal.by.get("run") == run.record.id and journal.by["launch"] >= (first if left else 0)
    ]
    note_cards(run, own, ended, time.time() - began)
    found = as_predictions(merged(kept, key), _measured(kept), images, loaded)
    if len(found.table) < len(images) or any(one.reason for one in ended):
        raise InputError(_incomplete(run, len(found.table), len(images)))
    return found


def _measured(kept: Sequence[Kept]) -> pd.DataFrame:
    """What was measured of all batches, in the order in which they ended."""
    found = [
        pd.DataFrame(journal.batches).assign(run=journal.by["run"], process=journal.by["process"])
        for journal in kept
        if journal.batches
    ]
    return (
        pd.concat(found).sort_values("ended", kind="stable", ignore_index=True)
        if found
        else pd.DataFrame(columns=TIMES)
    )


def _note_earlier(run: Run[AccuracyRecord], earlier: Earlier, asked: AccuracyParameters) -> None:
    """Record what was taken up, and how to go on should this run end early, and say it."""
    before = interruptions(run.folder, earlier.kept, run.record.id)
    run.note(resume=command(asked, run.folder), interruptions=before, anew=earlier.anew)
    if earlier.anew:
        print(earlier.anew)
    if before:
        print(
            f"{sum(one.images for one in before):,} images were answered before this run was started, and are not answered again."
        )


def _incomplete(run: Run[AccuracyRecord], answered: int, images: int) -> str:
    from IPython.display import display

    display(cards_table(run))  # type: ignore[no-untyped-call]
    failed = [f"process {one.process} ({one.failed})" for one in run.record.cards if one.failed]
    return (
        f"{images - answered:,} of {images:,} images are not answered, because a process ended early: {'; '.join(failed)}. "
        f"The answers that there are stay. Go on with: {run.record.resume}"
    )


class _Launches:
    """Starts what answers the images, in this process or in several."""

    def __init__(
        self,
        run: Run[AccuracyRecord],
        loaded: Loaded,
        images: LabelledImages,
        asked: AccuracyParameters,
        key: Mapping[str, Any],
    ) -> None:
        self.run, self.loaded, self.images, self.asked, self.key = run, loaded, images, asked, key
        self.files: list[Path] = []
        """That are of no use once the run has reached its conclusion"""
        self.place = this_place()

    def all_of(self, left: Sequence[Sequence[int]]) -> list[Ended]:
        """Answer these batches; returns how each process ended. Nothing is started where none is left."""
        names = named_devices(self.asked.devices, self.asked.device) if self.asked.devices and left else ()
        processes = self.place.processes if self.place else len(names)
        alone = min(MOST_ALONE, len(left) // (processes + 1)) if self.asked.scaling and left else 0
        ended: list[Ended] = []
        if self.place:
            ended += self._here(left[:alone], alone=True) if alone else []
            return [*(one for one in ended if one.reason), *self._with_the_others(left[alone:])]
        if not names:
            return self._here(left) if left else []
        self.loaded.release()
        if alone:
            ended += self._in_processes(names[:1], alone)
        return [*(one for one in ended if one.reason), *self._in_processes(names)]

    def _told(self, names: Sequence[str] = (), alone: int = 0) -> dict[str, Any]:
        """What every process of the next launch has to know."""
        record = self.run.record
        return {
            "run": record.id, "started": record.started, "folder": str(self.run.folder), "parameters": self.asked.model_dump(),
            "key": self.key, "launch": next_launch(self.run.folder), "devices": list(names), "most": alone or None, "alone": alone > 0,
        }  # fmt: skip

    def _here(self, left: Sequence[Sequence[int]], *, alone: bool = False) -> list[Ended]:
        """Answer in this process."""
        told = self._told(alone=int(alone))
        return [self._own_share(told, left)]

    def _own_share(self, told: Any, groups: Sequence[Sequence[int]]) -> Ended:
        processes = self.place.local_processes if self.place and not told["alone"] else 1
        try:
            answer(self.loaded, self.images, groups, begun(told, 0, str(self.loaded.device)), self.asked, processes)
        except InputError as error:  # a lost card, a full disk: the others may go on
            return Ended(0, str(error))
        return Ended(0, "")

    def _with_the_others(self, left: Sequence[Sequence[int]]) -> list[Ended]:
        """Answer as the first of the processes that a user's own torchrun has started."""
        assert self.place
        told = self._told() if left else None
        with group():
            told = broadcast(told)
            own = self._own_share(told, left[:: self.place.processes]).reason if told else ""
            reasons = gather(own)
        return [Ended(rank, reason) for rank, reason in enumerate(reasons)] if told else []

    def _in_processes(self, names: Sequence[str], alone: int = 0) -> list[Ended]:
        """Answer in a process for each card, and show the progress of all of them."""
        told = self._told(names, alone)
        log = self.run.folder / f"accuracy_cards.{told['launch']}"
        settings = log.with_name(f"{log.name}.json")
        write_whole(settings, json.dumps(told))
        written = [Followed(journal_path(self.run.folder, told["launch"], process)) for process in range(len(names))]
        answered = sum(len(read_journal(path).rows) for path in journals(self.run.folder))
        try:
            with Progress(
                total=len(self.images), initial=answered, desc=f"{self.images.name} on {len(names)} cards", unit="image"
            ) as bar:
                reasons = launch(
                    WORKER, settings, len(names), log, lambda: _show(bar, sum(one.more() for one in written))
                )
                return [Ended(process, reason) for process, reason in enumerate(reasons)]
        finally:
            self.files += self.run.folder.glob(f"{log.name}*")


def _show(bar: Progress, more: int) -> None:
    if more:
        bar.update(more)
