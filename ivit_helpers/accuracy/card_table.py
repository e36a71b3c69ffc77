"""What each card did, what all did together, and what was interrupted: for the record and for a reader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ivit_helpers.accuracy.journal import Kept
from ivit_helpers.record.record import AccuracyRecord
from ivit_helpers.record.rows import AllCards, CardRow
from ivit_helpers.record.run import Run
from ivit_helpers.report.figure import Together
from ivit_helpers.report.table import NOTHING, Table, facts, number


@dataclass(frozen=True)
class Ended:
    """How a process ended: with what reason, empty for one that did its work."""

    process: int
    reason: str


def note_cards(run: Run[AccuracyRecord], own: Sequence[Kept], ended: Sequence[Ended], seconds: float) -> None:
    """Record what the processes of this run did. own: their journals. seconds: that starting and answering took."""
    together = [journal for journal in own if not journal.by["alone"]]
    alone = [journal for journal in own if journal.by["alone"]]
    reasons = {one.process: one.reason for one in ended}
    rows = [_card(journal, reasons.pop(journal.by["process"], "")) for journal in together]
    rows += [_without_journal(process, reason) for process, reason in reasons.items() if reason]
    rows.sort(key=lambda row: row.process)
    run.note(cards=rows, all_cards=_all_cards(rows, together, alone, seconds))


def _card(journal: Kept, reason: str) -> CardRow:
    by = journal.by
    return CardRow(
        process=by["process"],
        card=by["card"],
        host=by["host"],
        images=len(journal.rows),
        images_per_s=speed(journal.batches),
        computed_s=sum(batch["seconds"] for batch in journal.batches),
        waited_s=sum(batch["waited"] for batch in journal.batches),
        failed=reason,
    )


def _without_journal(process: int, reason: str) -> CardRow:
    """Of a process that ended before it could answer anything."""
    return CardRow(
        process=process,
        card=NOTHING,
        host=NOTHING,
        images=0,
        images_per_s=None,
        computed_s=0,
        waited_s=0,
        failed=reason,
    )


def speed(batches: Sequence[Mapping[str, Any]]) -> float | None:
    """Images a second over the batches after the first, which also loads kernels; None for fewer than two."""
    seconds = sum(batch["whole"] for batch in batches[1:])
    return sum(batch["images"] for batch in batches[1:]) / seconds if seconds > 0 else None


def _all_cards(
    rows: Sequence[CardRow], together: Sequence[Kept], alone: Sequence[Kept], seconds: float
) -> AllCards | None:
    batches = [batch for journal in together for batch in journal.batches]
    if not batches:
        return None
    images = sum(batch["images"] for batch in batches)
    wall = max(batch["ended"] for batch in batches) - min(batch["ended"] - batch["whole"] for batch in batches)
    speeds = [row.images_per_s for row in rows if row.images_per_s is not None]
    first_alone = speed([batch for journal in alone for batch in journal.batches])
    return AllCards(
        images=images,
        seconds=wall,
        images_per_s=images / wall,
        with_start_images_per_s=(images + sum(len(journal.rows) for journal in alone)) / seconds,
        sum_of_cards_images_per_s=sum(speeds) if len(speeds) == len(rows) else None,
        alone_images_per_s=first_alone,
        scaling_efficiency=sum(speeds) / len(speeds) / first_alone if speeds and first_alone else None,
    )


def cards_table(run: Run[AccuracyRecord]) -> object:
    """Each card's images and speed, the speed of all together, and every interruption."""
    record = run.record
    parts: list[Any] = (
        [_cards(record)] if record.cards else [Table([{"cards": "nothing was left to answer in this run"}])]
    )
    if record.all_cards:
        parts.append(facts(_in_words(record.all_cards), "All cards of this run"))
    if record.interruptions:
        parts.append(Table([
            {"earlier run": one.started, "images answered": f"{one.images:,}", "processes": str(one.journals),
             "half-written bytes dropped": str(one.dropped_bytes), "ended": one.reason}
            for one in record.interruptions
        ], "Interruptions: the answers of these runs are in the table"))  # fmt: skip
    if record.anew:
        parts.append(Table([{"begun anew": record.anew}]))
    return Together(*parts)


def _cards(record: AccuracyRecord) -> Table:
    several_hosts = len({row.host for row in record.cards}) > 1
    return Table([
        {"process": str(row.process), "card": row.card, "host": row.host if several_hosts else NOTHING, "images": f"{row.images:,}",
         "images/s": number(row.images_per_s), "computed, s": number(row.computed_s), "waited for images, s": number(row.waited_s),
         "ended early": row.failed or NOTHING}
        for row in record.cards
    ], "Each card, by its own clock and after its first batch")  # fmt: skip


def _in_words(all_cards: AllCards) -> dict[str, str]:
    found = {
        "images/s, all over the wall clock": number(all_cards.images_per_s),
        "images/s, with starting and loading": number(all_cards.with_start_images_per_s),
        "images/s, sum of the cards' own": number(all_cards.sum_of_cards_images_per_s),
        "images/s, the first card alone": number(all_cards.alone_images_per_s),
    }
    if all_cards.scaling_efficiency is not None:
        found["scaling efficiency (a card among the others / the first alone)"] = f"{all_cards.scaling_efficiency:.1%}"
    return {name: value for name, value in found.items() if value != NOTHING}
