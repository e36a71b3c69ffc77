"""Decoding beside the device. What overlaps is shown by what has to happen before what, not by clocks."""

import multiprocessing
import os
import select
import signal
import struct
import subprocess
import sys
import zlib
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from ivit_helpers.errors import InputError
from ivit_helpers.images import decoding, folders, labelled_images, transform
from ivit_helpers.images.labelled_images import LabelledImages
from ivit_helpers.images.transform import ImageTransform, Picture

TRANSFORM = ImageTransform(size=28, crop_size=28)
PATIENCE = 60  # seconds to wait for a process that may never answer: only a broken pipeline takes that long


@pytest.fixture
def folder(tmp_path):
    """Nine images in two classes; the third is truncated, the fourth is a text file, the last vanishes after the set was listed."""
    for label, count in (("a", 5), ("b", 4)):
        (tmp_path / label).mkdir()
        for number in range(count):
            Image.effect_noise((40 + number, 36), 80).save(tmp_path / label / f"{number}.jpg")
    truncated = tmp_path / "a" / "2.jpg"
    truncated.write_bytes(truncated.read_bytes()[:200])
    (tmp_path / "a" / "3.jpg").write_text("not an image")
    found = folders.class_folders(tmp_path)
    (tmp_path / "b" / "3.jpg").unlink()
    return found


def collected(found, batch_size, workers):
    with closing(decoding.batches(found, TRANSFORM, batch_size, workers)) as batches:
        return list(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_comes_once_in_order_with_its_own_outcome(folder, workers):
    decoded = [one for batch in collected(folder, 2, workers) for one in batch.images]
    assert [one.number for one in decoded] == list(range(9))
    assert [one.fault for one in decoded] == ["", "", "unreadable", "unreadable", "", "", "", "", "missing"]
    assert all(bool(one.reason) == bool(one.fault) for one in decoded)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_pixels_are_bit_for_bit_those_of_the_transform(folder, workers):
    batches = collected(folder, 4, workers)
    assert [batch.numbers for batch in batches] == [
        [0, 1],
        [4, 5, 6, 7],
        [],
    ]  # one that gives no pixels does not move the others
    for batch in batches[:2]:
        expected = torch.stack([TRANSFORM(folder.picture(number).image) for number in batch.numbers])
        assert torch.equal(torch.from_numpy(batch.pixels), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_reports_its_orientation_and_whether_it_is_cmyk(tmp_path, workers):
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "a" / "0.jpg", exif=exif)
    Image.new("CMYK", (40, 30)).save(tmp_path / "a" / "1.jpg")
    Image.new("RGB", (40, 30)).save(tmp_path / "a" / "2.jpg")
    [batch] = collected(folders.class_folders(tmp_path), 4, workers)
    assert [(one.orientation, one.cmyk) for one in batch.images] == [(6, False), (1, True), (1, False)]


@pytest.mark.parametrize("workers", [0, 2])
def test_only_the_images_that_are_asked_for_are_decoded(folder, workers):
    with closing(decoding.batches(folder, TRANSFORM, 4, workers, [range(4, 8), [0, 8]])) as batches:
        assert [[one.number for one in batch.images] for batch in batches] == [[4, 5, 6, 7], [0, 8]]


def test_a_set_that_is_all_unreadable_is_reported_without_pixels(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    [batch] = collected(folders.class_folders(tmp_path), 8, 0)
    assert (batch.numbers, batch.pixels.shape, batch.images[0].fault) == ([], (0, 3, 28, 28), "unreadable")


def test_the_checksum_tells_one_image_from_another_and_is_repeatable(folder):
    sums = [[one.checksum for one in collected(folder, 9, 0)[0].images] for _ in range(2)]
    assert sums[0] == sums[1]
    assert len(set(sums[0])) == 6 + 1  # the three without pixels share the empty one


def test_a_small_set_is_decoded_without_starting_processes(folder, monkeypatch):
    monkeypatch.setattr(decoding, "in_workers", None)
    assert sum(len(batch.images) for batch in collected(folder, 2, decoding.AUTO)) == 9


def test_slow_decoding_starts_workers_and_repeats_no_image(folder, monkeypatch):
    monkeypatch.setattr(decoding, "WORTHWHILE_SECONDS", 0.0)
    started = []
    decode_in_workers = decoding.in_workers

    def watched(decoder, numbers, *how, **named):
        started.append(list(numbers))
        return decode_in_workers(decoder, started[-1], *how, **named)

    monkeypatch.setattr(decoding, "in_workers", watched)
    decoded = [one for batch in collected(folder, 2, decoding.AUTO) for one in batch.images]
    assert [one.number for one in decoded] == list(range(9))
    assert started == [list(range(decoding.SAMPLE, 9))]


@dataclass(frozen=True)
class Announced(LabelledImages):
    """Grey images that report through a pipe in the file system which of them is being decoded."""

    pipe: Path = Path()

    def picture(self, index):
        with self.pipe.open("wb") as pipe:
            pipe.write(bytes([index]))
        return Picture(Image.new("L", (28, 28), index).convert("RGB"))


@dataclass(frozen=True)
class Deadly(LabelledImages):
    """Its third image takes the process that decodes it along, as the system does when memory runs out."""

    def picture(self, index):
        if index == 2 and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return Picture(Image.new("RGB", (28, 28)))


def of(kind, count, **more):
    return kind("made", [Path(str(number)) for number in range(count)], [0] * count, ["a"], **more)


@pytest.fixture
def announced(tmp_path):
    """(the images, a function that waits for the next announcement)."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    handle = os.open(pipe, os.O_RDWR)

    def heard():
        ready, _, _ = select.select([handle], [], [], PATIENCE)
        assert ready, "no further image was decoded"
        return os.read(handle, 1)[0]

    yield of(Announced, 60, pipe=pipe), heard
    os.close(handle)


def test_later_images_are_decoded_while_the_first_batch_is_in_use(announced):
    found, heard = announced
    with closing(decoding.batches(found, TRANSFORM, 4, workers=2)) as batches:
        first = next(batches)
        assert list(first.numbers) == [0, 1, 2, 3]
        while heard() < 8:  # beyond the second batch, before anyone asked for it
            pass


class AtOnce(ProcessPoolExecutor):
    """Decodes in this process what it is given, at once, and counts it."""

    def __init__(self, workers, context, initializer, arguments):
        super().__init__(1)
        [self.decoder], self.given = arguments, 0
        AtOnce.last = self

    def submit(self, _, number):
        self.given += 1
        done = Future()
        done.set_result(self.decoder(number))
        return done


def test_no_more_than_a_bounded_number_is_decoded_ahead(monkeypatch):
    monkeypatch.setattr(decoding, "ProcessPoolExecutor", AtOnce)
    batch_size, workers = 4, 2
    with closing(decoding.batches(labelled_images.synthetic_images(60, 0), TRANSFORM, batch_size, workers)) as batches:
        for used, _ in enumerate(batches, 1):
            assert AtOnce.last.given <= batch_size * (used + 1) + batch_size + 2 * workers
    assert AtOnce.last.given == 60


def decoding_processes():
    """Workers of this process: children of its fork server."""
    return [
        process
        for child in psutil.Process().children()
        for process in child.children()
        if "forkserver" in " ".join(child.cmdline())
    ]


def test_a_killed_worker_is_reported_and_does_not_hang():
    with pytest.raises(InputError, match="ended early .*run again with fewer workers"):
        collected(of(Deadly, 8), 4, 2)


def test_no_worker_is_left_when_the_consumer_stops_early(announced):
    found, _ = announced
    with closing(decoding.batches(found, TRANSFORM, 4, workers=2)) as batches:
        next(batches)
        assert decoding_processes()
    assert not psutil.wait_procs(decoding_processes(), timeout=PATIENCE)[1]


def test_a_worker_imports_no_torch():
    code = "import sys, ivit_helpers.images; sys.exit(bool({'torch', 'scipy', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


UNGUARDED = """
import os
from ivit_helpers.images.decoding import batches
from ivit_helpers.images.transform import ImageTransform
from ivit_helpers.images.labelled_images import synthetic_images
print("the script runs", flush=True)
for batch in batches(synthetic_images(8, 0), ImageTransform(), 4, workers=1):
    print(*batch.numbers)
"""


def test_a_script_without_a_guard_is_not_run_again_by_its_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    environment = {**os.environ, "PYTHONPATH": str(Path(decoding.__file__).parents[2])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert done.stdout.splitlines() == ["the script runs", "0 1 2 3", "4 5 6 7"], done.stderr


ORPHANED = """
import os, signal, sys
from ivit_helpers.images.decoding import batches
from ivit_helpers.images.transform import ImageTransform
from ivit_helpers.images.labelled_images import synthetic_images
decoded = batches(synthetic_images(200, 0), ImageTransform(), 4, workers=2)
next(decoded)
import psutil
print(*[p.pid for c in psutil.Process().children() for p in c.children()], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_when_the_process_they_work_for_is_killed():
    done = subprocess.run([sys.executable, "-c", ORPHANED], capture_output=True, text=True, timeout=PATIENCE)
    workers = [psutil.Process(int(number)) for number in done.stdout.split() if psutil.pid_exists(int(number))]
    assert done.stdout.split(), done.stderr
    assert not psutil.wait_procs(workers, timeout=PATIENCE)[1]


def test_normalising_a_batch_gives_the_bits_of_the_official_formula():
    every_value = np.stack([np.arange(256, dtype=np.uint8)] * 3, -1).reshape(16, 16, 3)
    pixels = torch.from_numpy(every_value).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (transform.IMAGENET_MEAN, transform.IMAGENET_STD))
    assert torch.equal(torch.from_numpy(ImageTransform().normalised(every_value)), (pixels - mean) / std)


@pytest.mark.parametrize("raised", [SyntaxError, struct.error, IndexError, EOFError, AttributeError, RecursionError, MemoryError,
                                    Image.DecompressionBombError, zlib.error, AssertionError])  # fmt: skip
def test_whatever_a_decoder_raises_costs_one_image(raised, folder, monkeypatch):
    def opened(file, upright=False):
        if Path(file.name).name == "0.jpg":
            raise raised("odd")
        return Picture(Image.new("RGB", (40, 40)))

    monkeypatch.setattr(labelled_images, "read_picture", opened)
    decoded = [one for batch in collected(folder, 4, 0) for one in batch.images]
    assert [one.fault for one in decoded] == ["unreadable", "", "", "", "", "unreadable", "", "", "missing"]
    assert decoded[0].reason == "odd"
