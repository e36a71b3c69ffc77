"""What do several cards lose to each other? All are timed at once, and the first of them alone, in turn and in one run."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ivit_helpers import distributed
from ivit_helpers.benchmark import figures
from ivit_helpers.device.several import named_devices
from ivit_helpers.measure.samples import interval
from ivit_helpers.record.parameters import BenchmarkParameters
from ivit_helpers.record.record import BenchmarkRecord, best
from ivit_helpers.record.rows import BenchmarkRow, CardAtOnce, CardsAtOnce, Estimate
from ivit_helpers.record.run import Run
from ivit_helpers.report.figure import Together
from ivit_helpers.report.table import Table, facts, number
from ivit_helpers.weights.loading import Loaded

RAN = "every card was timed"
SAME = "every card gives the first card's answer"
SHARED_CPU = "These processes share the cores and the memory bandwidth of one CPU, so their loss says nothing of cards"
WAITS_NOW = "among the others the first card waits for its host, which launches the work of all of them"
WAITS_ALONE = "the first card waits for its host even alone: a captured graph or a larger batch needs fewer launches"
GONE = "closed by peer"
"""What gloo says in a process whose partner has ended"""
Found = Mapping[str, Any]
"""What a process measured, as `one_card` writes it"""


def cards_at_once(
    run: Run[BenchmarkRecord], rows: Sequence[BenchmarkRow], loaded: Loaded, asked: BenchmarkParameters
) -> Together:
    """Time the fastest configuration of the first implementation on all of `devices` at once, and on the first of them alone."""
    row = best(rows)
    if not asked.devices or row is None:
        return Together(
            Table(
                [{"several cards": "not asked for: devices=8 times eight at once" if row else "nothing was measured"}]
            )
        )
    names = named_devices(asked.devices, asked.device)
    loaded.device.release_memory()  # the process of the first card needs its memory beside this one
    found, failed = _launched(names, row, asked)
    run.check(RAN, not failed, "; ".join(failed) or f"{len(found)} at once, and the first alone")
    if failed:
        return Together(Table([{"card that was not timed": reason} for reason in failed]))
    kept = summed_up(found, row)
    run.note(cards=kept)
    rounding = torch.finfo(loaded.dtype).eps
    different = [f"{one.card} ({_error(one)})" for one in kept.cards if one.error is None or one.error > rounding]
    run.check(
        SAME,
        not different,
        f"different: {', '.join(different)}" if different else f"to one rounding, on {len(names)} cards",
    )
    shared = loaded.device.uses_host_memory
    return Together(figures.at_once(kept), table(kept), facts(described(kept), caption(kept, shared)))


def _launched(names: Sequence[str], row: BenchmarkRow, asked: BenchmarkParameters) -> tuple[list[Found], list[str]]:
    """What each process measured, and why some did not."""
    with tempfile.TemporaryDirectory() as folder:
        settings, answer = Path(folder, "settings.json"), Path(folder, "answer.json")
        told = {
            "parameters": asked.model_dump(), "devices": names, "implementation": row.implementation, "batch_size": row.batch_size,
            "answer": str(answer),
        }  # fmt: skip
        settings.write_text(json.dumps(told))
        module, log = "ivit_helpers.benchmark.one_card", Path(folder, "cards.log")
        reasons = distributed.launch(module, settings, len(names), log)
        failed = {process: reason for process, reason in enumerate(reasons) if reason}
        own = {
            process: reason
            for process, reason in failed.items()
            if reason != distributed.STOPPED and GONE not in reason
        }
        listed = [f"process {process}: {reason}" for process, reason in (own or failed).items()]
        return [] if failed else json.loads(answer.read_text()), listed


def _estimate(values: Sequence[float]) -> Estimate:
    low, high = interval(values) or (None, None)
    return Estimate(mean=float(np.mean(values)), low=None if low is None else max(0.0, low), high=high)


def _speeds(windows: Sequence[Sequence[float]], images: int) -> list[float]:
    return [images * calls / (ended - began) for began, ended, calls in windows]


def summed_up(found: Sequence[Found], row: BenchmarkRow) -> CardsAtOnce:
    """The record's part, from what each process measured."""
    images, first = row.batch_size, found[0]
    alone, among = _speeds(first["alone"], images), _speeds(first["at_once"], images)
    wall = []
    for windows in zip(*(one["at_once"] for one in found), strict=True):
        began, ended, calls = zip(*windows, strict=True)
        wall.append(images * sum(calls) / (max(ended) - min(began)))
    return CardsAtOnce(
        implementation=row.implementation,
        dtype=row.dtype,
        batch_size=images,
        cards=[_card(number, one, images) for number, one in enumerate(found)],
        alone_images_per_s=_estimate(alone),
        **dict(zip(("alone_host_ms", "alone_device_ms"), _milliseconds(first["alone_launching"]), strict=True)),
        images_per_s=_estimate(wall),
        kept_by_first=_estimate([here / there for here, there in zip(among, alone, strict=True)]),
        scaling_efficiency=_estimate(
            [all_of_them / (len(found) * one) for all_of_them, one in zip(wall, alone, strict=True)]
        ),
        windows=len(alone),
    )


def _error(one: CardAtOnce) -> str:
    return "not finite" if one.error is None else f"relative error {one.error:.1e}"


def _milliseconds(seconds: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (None, None) if seconds is None else (1e3 * seconds[0], 1e3 * seconds[1])


def _card(number: int, one: Found, images: int) -> CardAtOnce:
    host_ms, device_ms = _milliseconds(one["launching"])
    return CardAtOnce(
        process=number,
        card=one["card"],
        images_per_s=_estimate(_speeds(one["at_once"], images)),
        calls=sum(calls for *_, calls in one["at_once"]),
        error=one["error"],
        host_ms=host_ms,
        device_ms=device_ms,
    )


def in_words(found: Estimate, digits: int = 2, unit: str = "") -> str:
    """A figure with its interval, for a reader."""
    within = "" if found.low is None else f" ({number(found.low, digits)} to {number(found.high, digits)})"
    return f"{number(found.mean, digits)}{within}{unit}"


def table(found: CardsAtOnce) -> Table:
    """Each card among the others, and the first of them alone."""
    alone = {"card": f"{found.cards[0].card}, alone", "images/s": in_words(found.alone_images_per_s)}
    alone |= {
        "ms until the last launch returns": number(found.alone_host_ms),
        "ms until the device is idle": number(found.alone_device_ms),
    }
    rows = [
        {
            "card": f"{one.card}, process {one.process}",
            "images/s": in_words(one.images_per_s),
            "ms until the last launch returns": number(one.host_ms),
            "ms until the device is idle": number(one.device_ms),
        }
        for one in found.cards
    ]
    how = f"{found.implementation}, {found.dtype}, batch {found.batch_size}"
    return Table(
        [alone, *rows], f"All cards at once, and the first alone: {how}, 95 % intervals over {found.windows} windows"
    )


def described(found: CardsAtOnce) -> dict[str, str]:
    """The key figures of all cards together, for a reader."""
    count, kept = len(found.cards), found.kept_by_first
    said = {
        f"all {count} together": in_words(found.images_per_s, unit=" images/s on the wall clock"),
        f"of {count} times the first alone": in_words(found.scaling_efficiency, 3),
        "the first among the others, of its speed alone": in_words(kept, 3),
    }
    if kept.low is not None and kept.high is not None:
        seen = "a loss" if kept.high < 1 else "a gain" if kept.low > 1 else "no difference seen"
        said["what the first loses to the others"] = seen
    return said


def caption(found: CardsAtOnce, shared_cpu: bool) -> str:
    """Why cards lose to each other, as far as it was seen."""
    if shared_cpu:
        return SHARED_CPU
    if found.first_waits_alone or found.cards[0].waits:
        return f"Who waits: {WAITS_ALONE if found.first_waits_alone else WAITS_NOW}"
    return "Who waits: the host waits for the first card, so what it loses is not lost in launching"
