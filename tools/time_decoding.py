"""Does decoding run beside the device? A whole evaluation against decoding alone and inference alone, in turn in one run.

    python tools/time_decoding.py --device npu --model random:6b-224 --batch-size 32
    python tools/time_decoding.py --device cpu --threads 1 --workers 1
    python tools/time_decoding.py --device cpu --stand-in 30
    python tools/time_decoding.py --device cpu --stand-in 50 --slow 50 --workers 1 --width 300 --height 200

The third is for a machine without an accelerator: the network is replaced by a wait, which leaves the host alone as an
accelerator does. The last is for a busy machine: reading an image is mostly a wait too, as from a slow file server. Every
figure is wall-clock seconds, the start of the workers included; a short run also pays for its first and last batch, so give
--count at least twenty batches where decoding and inference take about the same time.
"""

import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from slow_images import SlowImages
from torch import Tensor, nn
from tqdm import tqdm

from ivit_helpers.accuracy import predictions
from ivit_helpers.device.selection import select
from ivit_helpers.images import decoding, folders
from ivit_helpers.images.labelled_images import LabelledImages
from ivit_helpers.measure.timing import timed
from ivit_helpers.weights import loading, sources
from ivit_helpers.weights.loading import Loaded


class Waiting(nn.Module):
    """Stands in for a network on an accelerator: takes its time and leaves the host alone."""

    def __init__(self, milliseconds: float, shape: tuple[int, int]) -> None:
        super().__init__()
        self.seconds, self.shape = milliseconds / 1e3, shape

    def forward(self, pixels: Tensor) -> Tensor:
        time.sleep(self.seconds * len(pixels))
        return torch.zeros(len(pixels), *self.shape)


def photographs(folder: Path, count: int, width: int, height: int, milliseconds: float) -> LabelledImages:
    """JPEG files with about the detail of photographs."""
    (folder / "0").mkdir()
    for number in tqdm(range(count), desc="making photographs", unit="image", leave=False, delay=1):
        rough = np.random.default_rng(number).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC).save(
            folder / "0" / f"{number:05d}.jpg", quality=90
        )
    found = folders.class_folders(folder)
    return SlowImages(found.name, found.paths, found.labels, found.classes, found.root, seconds=milliseconds / 1e3)


def rounds(loaded: Loaded, found: LabelledImages, batch_size: int, workers: int, count: int) -> dict[str, list[float]]:
    """Seconds of decoding alone, inference alone and the whole evaluation, in turn."""
    transform, classifier = loaded.checkpoint.transform, loaded.classifier

    def decode() -> list[Tensor]:
        with closing(decoding.batches(found, transform, batch_size, workers)) as batches:
            return [torch.from_numpy(batch.pixels) for batch in batches]

    ready = decode()

    def infer() -> None:
        with loaded.device.inference():
            for pixels in ready:
                timed(lambda pixels=pixels: classifier(pixels.to(loaded.device.torch_device)), loaded.device)

    infer()  # kernels are loaded and compiled here
    taken: dict[str, list[float]] = {"decoding": [], "inference": [], "evaluation": []}
    for _ in tqdm(range(count), desc="measuring", unit="round", leave=False, delay=1):
        taken["decoding"].append(timed(decode, loaded.device))
        taken["inference"].append(timed(infer, loaded.device))
        taken["evaluation"].append(
            timed(lambda: predictions.predict(loaded, found, batch_size, workers), loaded.device)
        )
    return taken


@click.command(help=__doc__.partition("\n")[0])
@click.option("--model", default="tiny", show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--stand-in", type=float, metavar="MS", help="Replace the network by a wait of this many milliseconds an image."
)
@click.option("--slow", default=0.0, metavar="MS", help="Wait this many milliseconds before each image is read.")
@click.option("--workers", default=decoding.AUTO, show_default=True, help="Decoding processes; -1: as in a report.")
@click.option("--threads", type=int, help="Threads of torch on the host.")
@click.option("--batch-size", default=8, show_default=True)
@click.option("--count", default=96, show_default=True, help="Photographs.")
@click.option("--width", default=3000, show_default=True)
@click.option("--height", default=2000, show_default=True)
@click.option("--repeats", default=3, show_default=True, help="Rounds.")
def main(
    model: str,
    device: str,
    stand_in: float | None,
    slow: float,
    workers: int,
    threads: int | None,
    batch_size: int,
    count: int,
    width: int,
    height: int,
    repeats: int,
) -> None:
    """Make the photographs, measure, and print."""
    if threads:
        torch.set_num_threads(threads)
    accelerator = select(device)
    loaded = loading.load(sources.find(model), accelerator, accelerator.dtype("auto"))
    if stand_in is not None:
        config = loaded.network.config
        loaded = replace(loaded, network=Waiting(stand_in, (config.tokens, config.hidden_size)))
    with tempfile.TemporaryDirectory() as folder:
        found = photographs(Path(folder), count, width, height, slow)
        taken = rounds(loaded, found, batch_size, workers, repeats)
    click.echo(
        f"{count} JPEG files of {width} x {height}, batch {batch_size}, workers {workers} of {decoding.cores()} cores, {accelerator}, "
        f"{'a wait of ' + str(stand_in) + ' ms an image' if stand_in is not None else loaded.checkpoint.name}"
    )
    for name, values in taken.items():
        click.echo(
            f"{name:>10}  {' '.join(f'{value:7.2f}' for value in values)} s, {count / statistics.median(values):8.1f} images/s"
        )
    ratios = [whole / max(alone) for *alone, whole in zip(*taken.values(), strict=True)]
    click.echo(
        f"evaluation / slower of the two, by round: {' '.join(f'{ratio:.3f}' for ratio in ratios)}; median {statistics.median(ratios):.3f}"
    )


if __name__ == "__main__":
    main()
