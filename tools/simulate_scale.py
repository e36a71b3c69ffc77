"""What would a hundred cards and a hundred million images need? The sharing and the merging of answers, simulated at that size.

    python tools/simulate_scale.py --images 1000000 --cards 100 --target 100000000

Sharing is carried out at the target's own size. Journals are written, read and merged by the kit's own code at `--images`, and image
sets are listed at `--listed`; these figures are scaled to the target by the number of images, which is arithmetic. Every stage has a
process of its own. Its seconds are those of one core, without waiting for the disk; its memory is what its peak resident size grew by.
"""

import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import click
import numpy as np

from ivit_helpers.accuracy.columns import Columns, in_pieces
from ivit_helpers.accuracy.earlier import journal_path, journals, unanswered
from ivit_helpers.accuracy.journal import Journal, merged, read_journal
from ivit_helpers.images.folders import class_folders
from ivit_helpers.images.tar import tar_shards

KEY = {"model": "simulated"}
BATCH = 64
"""Images"""
BLOCK = 16
"""Batches that are flushed to the disk together; a card of 33 images a second flushes as many rows every 30 seconds"""
PIXEL = b"\xff\xd8\xff\xd9"
"""The content of a listed image: its first and last bytes, for listing reads no pixels"""


def row(number: int) -> dict[str, Any]:
    """An answer with the fields and about the length of a real one."""
    scores = [
        round(value, 17)
        for value in (0.912345678901234, 0.03456789012345678, 0.01234567890123456, 0.0023456789, 0.00123456789)
    ]
    classes = [(number * 7 + k) % 1000 for k in range(5)]
    return {
        "number": number, "id": f"{number % 1000:03d}/{number:09d}.jpg", "label": number % 1000, "outcome": "scored", "reason": "",
        "pixels": f"{number * 2654435761 % 2**32:08x}", "orientation": 1, "cmyk": False,
        **{f"class{k + 1}": classes[k] for k in range(5)}, **{f"score{k + 1}": scores[k] for k in range(5)},
        "margin": number % 997 / 100 + 0.123456789,
    }  # fmt: skip


class Answered:
    """Stands in for a journal where only the images' numbers count."""

    def __init__(self, groups: Sequence[Sequence[int]]) -> None:
        self.rows = ({"number": number} for group in groups for number in group)


def shares(images: int, cards: int, seed: int = 0) -> Iterator[list[Sequence[Sequence[int]]]]:
    """The batches that each card answers in three runs, two of which are killed: on all cards, on three quarters of them, on all."""
    chance = np.random.default_rng(seed)
    before: list[Sequence[Sequence[int]]] = []
    for run, running in enumerate((cards, max(1, 3 * cards // 4), cards)):
        left = unanswered((Answered(groups) for groups in before), images, BATCH)
        done = [left[card::running] for card in range(running)]
        if run < 2:
            done = [share[: chance.integers(len(share) // 4, len(share) // 2 + 1)] for share in done]
        before += done
        yield done


def sharing(images: int, cards: int, _folder: Path) -> dict[str, float]:
    """Share all images out three times, and count how often each was answered."""
    answered = np.zeros(images, np.uint8)
    for done in shares(images, cards):
        for group in chain.from_iterable(done):
            answered[group[0] : group[-1] + 1] += 1
    if not (answered == 1).all():
        raise click.ClickException("an image was left out or answered twice")
    return {}


def imbalance(cards: int, spread: float = 0.03, draws: int = 2_000) -> float:
    """How much longer the slowest of the cards takes than all would together, where speeds differ by chance by that share."""
    speeds = 1 + spread * np.random.default_rng(0).standard_normal((draws, cards))
    return float(np.mean(speeds.mean(axis=1) / speeds.min(axis=1)))


def writing(images: int, cards: int, folder: Path) -> dict[str, float]:
    """Write the journals of the three runs, as the cards would, one after the other."""
    for launch, done in enumerate(shares(images, cards), 1):
        for card, groups in enumerate(done):
            with Journal(journal_path(folder, launch, card), KEY) as journal:
                for place, group in enumerate(groups):
                    journal.append(
                        map(row, group),
                        {"images": len(group), "seconds": 1.9, "waited": 0.0, "whole": 1.9, "ended": 1.8e9},
                    )
                    if place % BLOCK == BLOCK - 1:
                        journal.flush()
    return {"bytes": sum(path.stat().st_size for path in journals(folder))}


def reading(images: int, _cards: int, folder: Path) -> dict[str, float]:
    """Read the journals of all runs to find what is left, as every process does when a run is resumed."""
    left = unanswered(map(read_journal, journals(folder)), images, BATCH)
    if left:
        raise click.ClickException(f"{sum(map(len, left))} of {images} images are left")
    return {}


def by_dict(images: int, _cards: int, folder: Path) -> dict[str, float]:
    """Merge the journals with all rows in memory, which the kit does not do."""
    found = {found["number"]: found for path in journals(folder) for found in read_journal(path).rows}
    return _counted(images, (found[number] for number in sorted(found)))


def row_by_row(images: int, _cards: int, folder: Path) -> dict[str, float]:
    """Merge the journals with one block of each in memory."""
    return _counted(images, merged(map(read_journal, journals(folder)), KEY))


def tabulating(images: int, _cards: int, folder: Path) -> dict[str, float]:
    """Merge the journals into the table of an accuracy run, and write it as text."""
    columns = Columns([name for name in row(0) if name not in {"number", "id"}])
    for found in merged(map(read_journal, journals(folder)), KEY):
        columns.add(found)
    table = columns.table()
    if len(table) != images:
        raise click.ClickException(f"{len(table)} of {images} images are in the table")
    with (folder / "table.csv").open("w") as file:
        for piece in in_pieces(table):
            piece.to_csv(file, index=False, header=False)
    return {}


def _counted(images: int, rows: Any) -> dict[str, float]:
    count = 0
    for expected, found in enumerate(rows):
        if found["number"] != expected:
            raise click.ClickException(f"image {expected} was left out or came twice")
        count += 1
    if count != images:
        raise click.ClickException(f"{count} of {images} images were merged")
    return {}


def folders_listing(images: int, _cards: int, folder: Path) -> dict[str, float]:
    """List image files in 100 class folders."""
    found = class_folders(folder / "set")
    return {"found": len(found)} | _kept(images, len(found))


def tar_listing(images: int, _cards: int, folder: Path) -> dict[str, float]:
    """List the same images in tar files of 10,000."""
    found = tar_shards(sorted(folder.glob("*.tar")), "set")
    return {"found": len(found)} | _kept(images, len(found))


def _kept(images: int, found: int) -> dict[str, float]:
    if found != images:
        raise click.ClickException(f"{found} of {images} images were listed")
    return {}


def make_set(images: int, folder: Path) -> None:
    """The image files in folders, and the same in tar files."""
    for number in range(100):
        (folder / "set" / f"{number:03d}").mkdir(parents=True)
    for first in range(0, images, 10_000):
        with tarfile.open(folder / f"{first:09d}.tar", "w") as shard:
            for number in range(first, min(images, first + 10_000)):
                name = f"{number % 100:03d}/{number:09d}.jpg"
                (folder / "set" / name).write_bytes(PIXEL)
                member = tarfile.TarInfo(name)
                member.size = len(PIXEL)
                shard.addfile(member, io.BytesIO(PIXEL))


STAGES: dict[str, Callable[[int, int, Path], dict[str, float]]] = {
    "sharing": sharing, "writing": writing, "reading": reading, "by_dict": by_dict, "row_by_row": row_by_row, "tabulating": tabulating,
    "folders": folders_listing, "tar": tar_listing,
}  # fmt: skip


def here(stage: str, images: int, cards: int, folder: Path) -> dict[str, float]:
    """Carry out a stage in this process: seconds of one core, bytes by which the peak grew, and what the stage says."""
    before, began = _peak(), time.process_time()
    found = STAGES[stage](images, cards, folder)
    return {"seconds": time.process_time() - began, "memory": _peak() - before, **found}


def _peak() -> int:
    """Bytes of the largest resident size of this process so far; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10


def apart(stage: str, images: int, cards: int, folder: Path) -> dict[str, float]:
    """Carry out a stage in a process of its own."""
    words = [
        sys.executable,
        __file__,
        "--stage",
        stage,
        "--images",
        str(images),
        "--cards",
        str(cards),
        "--folder",
        str(folder),
    ]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


STEADY = {"writing", "row_by_row"}
"""Stages whose memory is that of a block of every journal, and does not grow with the images"""


def line(what: str, stage: str, found: dict[str, float], images: int, target: int) -> str:
    """A stage as it was measured, and scaled to the target."""
    scale = target / images
    seconds, memory = found["seconds"], found["memory"]
    said = f"{what:<28} {images:>11,} images: {seconds:7.1f} s, {memory / 2**20:6,.0f} MiB"
    if scale == 1:
        return said
    grown = "as much memory" if stage in STEADY else f"{scale * memory / 2**30:.1f} GiB"
    return f"{said}; by arithmetic {target:,}: {scale * seconds / 3600:.2f} h, {grown}"


@click.command(help=__doc__.partition("\n")[0])
@click.option("--images", default=1_000_000, show_default=True, help="Whose answers are written and merged.")
@click.option("--listed", default=100_000, show_default=True, help="Images that are listed.")
@click.option(
    "--target",
    default=100_000_000,
    show_default=True,
    help="Images that are shared out, and to which the rest is scaled.",
)
@click.option("--cards", default=100, show_default=True)
@click.option("--stage", type=click.Choice(list(STAGES)), help="Only this, in this process, over what is in --folder.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where files are made; by default a temporary folder.")
def main(images: int, listed: int, target: int, cards: int, stage: str | None, folder: Path | None) -> None:
    """Carry out every stage, and print what it took."""
    if stage and folder:
        click.echo(json.dumps(here(stage, images, cards, folder)))
        return
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)

        def tell(what: str, stage: str, count: int) -> dict[str, float]:
            found = apart(stage, count, cards, place)
            click.echo(line(what, stage, found, count, target))
            return found

        tell("sharing out, three runs", "sharing", target)
        click.echo(f"slowest of {cards} cards whose speeds differ by 3 %: {100 * imbalance(cards) - 100:.1f} % longer")
        size = tell("writing all journals", "writing", images)["bytes"] / images
        click.echo(f"journals: {size:.0f} bytes an image; by arithmetic {target:,}: {target * size / 1e9:,.0f} GB")
        tell("reading back what is left", "reading", images)
        tell("merging by a dict", "by_dict", images)
        tell("merging row by row", "row_by_row", images)
        tell("merging into the table", "tabulating", images)
        make_set(listed, place)
        tell("listing folders", "folders", listed)
        tell("listing tar files", "tar", listed)


if __name__ == "__main__":
    main()
