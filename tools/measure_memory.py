"""Does the memory of an accuracy run grow with its image set? The peak resident size of whole runs over sets of several sizes.

    python tools/measure_memory.py 500 50000 500000

Every size has a process of its own. The image files do not exist: a set gives the same grey picture under every path, and random
logits of 1,000 classes take the place of the network's. All else is what `accuracy.ipynb` does: listing, journal, tables, figures, the
comparison with an earlier run, and the page. The last line is how much more the largest set took than the smallest.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click
import nbformat
import torch
from PIL import Image
from torch import Tensor, nn

from ivit_helpers.accuracy import card_table, evaluation, other_run, questions
from ivit_helpers.device import cpu, selection
from ivit_helpers.images.compact import Paths
from ivit_helpers.images.labelled_images import LabelledImages
from ivit_helpers.images.transform import ImageTransform, Picture
from ivit_helpers.model.network import InternViT
from ivit_helpers.paths import NOTEBOOKS
from ivit_helpers.record.parameters import AccuracyParameters
from ivit_helpers.record.run import start
from ivit_helpers.report.page import write_report
from ivit_helpers.weights import loading, sources
from ivit_helpers.weights.loading import Loaded

CLASSES = 1_000
GREY = Picture(Image.new("RGB", (16, 16), (128, 128, 128)))
NAMES = tuple(f"class {number:03d}" for number in range(CLASSES))


class GreyImages(LabelledImages):
    """A set whose files do not exist; each of them is the same picture."""

    def picture(self, _index: int) -> Picture:
        return GREY


class RandomLogits(nn.Module):
    """The same logits in every run, but for a noise as of another rounding."""

    def __init__(self, in_place_of: InternViT, noise: float = 0.0) -> None:
        super().__init__()
        self.config, self.kernels, self.noise = in_place_of.config, in_place_of.kernels, noise
        self.logits, self.roundings = (torch.Generator().manual_seed(seed) for seed in (0, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        logits, rounding = (torch.randn(len(pixels), CLASSES, generator=one) for one in (self.logits, self.roundings))
        return 3 * logits + self.noise * rounding


def grey_images(count: int) -> LabelledImages:
    """`count` images of 1,000 classes, with paths as long as ImageNet's."""
    root = Path("imagenet/val")
    paths = Paths(root / NAMES[number % CLASSES] / f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(count))
    return GreyImages("grey", paths, [number % CLASSES for number in range(count)], NAMES, root)


def classifiers() -> list[Loaded]:
    """The embedded miniature with random logits in place of its network and head, as on two devices."""
    found = loading.load(sources.find("tiny"), selection.select("cpu"), torch.float32)
    small = replace(found.checkpoint, transform=ImageTransform(16, 16))
    found = replace(found, checkpoint=small, head=nn.Identity(), classes=NAMES)
    return [replace(found, network=RandomLogits(found.network, noise)) for noise in (0.0, 0.01)]


def run(images: LabelledImages, loaded: Loaded, out: Path, reference: str = "") -> Path:
    """One accuracy run with its page; returns the page."""
    asked = AccuracyParameters(out=str(out), reference=reference, workers=0)
    begun = start(asked)
    predictions = evaluation.evaluate(begun, loaded, images, asked)
    row = questions.keep(begun, predictions, loaded)
    shown = [
        questions.accounting_table(row),
        questions.left_out(begun, predictions),
        card_table.cards_table(begun),
        questions.overview(predictions, row),
        questions.accuracy_table(row),
        questions.class_figures(predictions),
        questions.mistakes(predictions, images, loaded),
        other_run.against(begun, predictions, images, loaded, reference),
        questions.pace(predictions),
    ]
    begun.finish("Random logits")
    notebook = nbformat.read(NOTEBOOKS / "accuracy.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and not cell.metadata.get("tags")]
    for cell, answer in zip(cells[1:], shown, strict=False):
        cell.execution_count = 1
        cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": answer._repr_html_()})]
    page = out / "accuracy.html"
    write_report(begun.record, notebook, page)
    begun.close()
    return page


def measured(count: int) -> dict[str, int]:
    """Peak resident bytes of two runs in this process, the second compared with the first, and the size of its page."""
    found: dict[str, int] = {}

    def peak(stage: str) -> None:
        found[stage] = cpu.host_peak() or 0
        click.echo(f"{stage}: {found[stage] / 2**20:,.0f} MiB", err=True)
        cpu.reset_host_peak()

    with tempfile.TemporaryDirectory() as folder:
        one, other = classifiers()
        peak("loading")
        images = grey_images(count)
        peak("listing")
        run(images, one, Path(folder, "first"))
        peak("first run")
        page = run(images, other, Path(folder, "second"), str(Path(folder, "first")))
        peak("second run, compared with the first")
        found["page"] = page.stat().st_size
    return found


@click.command(help=__doc__.partition("\n")[0])
@click.argument("counts", nargs=-1, required=True, type=int)
def main(counts: tuple[int, ...]) -> None:
    """Measure one size here, or several in a process each."""
    if len(counts) == 1:
        click.echo(json.dumps(measured(counts[0])))
        return
    peaks = {}
    for count in counts:
        done = subprocess.run([sys.executable, __file__, str(count)], check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        page = found.pop("page")
        peaks[count] = max(found.values())
        stages = ", ".join(f"{stage} {size / 2**20:,.0f}" for stage, size in found.items())
        click.echo(f"{count:>9,} images: peak MiB: {stages}; page {page / 1e6:.2f} MB")
    grown = (peaks[max(counts)] - peaks[min(counts)]) / 2**20
    click.echo(f"{max(counts):,} images take {grown:,.0f} MiB more than {min(counts):,}")


if __name__ == "__main__":
    main()
