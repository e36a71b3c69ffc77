"""Images -> batches of pixel values, decoded in worker processes while the device computes.

While the device computes one batch, a thread prepares the next batch and worker processes decode the images after it. The order is
the set's, every image gives exactly one result, and the number of images decoded ahead is bounded. A fork server starts the workers,
because a process that holds an accelerator must not be forked. Workers do not import torch, and they send 8-bit crops through pipes,
so the size of a container's /dev/shm does not matter.

torch's DataLoader was tried in place of this pool and gave the same results in the same order, but its workers import torch: the
first batch came after 8.7 s instead of 0.7 s (5.1 s instead of 1.4 s with torch preloaded by the fork server), and each worker had
148 MiB of its own instead of 9 MiB (2 workers on 2 cores; medians of 3 runs, of 2 with torch preloaded).
"""

import multiprocessing
import os
import signal
import statistics
import sys
import threading
import time
import zlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing.connection import wait
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ivit_helpers.device.several import cores
from ivit_helpers.errors import InputError, first_line
from ivit_helpers.images.labelled_images import LabelledImages
from ivit_helpers.images.transform import ImageTransform

AUTO = -1
MOST_WORKERS = 16  # about 1,500 ImageNet photographs a second: more than any card of today classifies
SAMPLE = 4  # images whose decoding is timed before workers are started
WORTHWHILE_SECONDS = 2.0  # of decoding that is left: several times the cost of starting the workers


@dataclass(frozen=True)
class Decoded:
    """The result of decoding one image file."""

    number: int
    """The image's place in the set"""
    crop: NDArray[np.uint8] | None = None
    """(crop_size, crop_size, 3), or None for an image that gave no pixels"""
    checksum: str = ""
    """CRC-32 of the crop: equal on two machines that decode and resize alike"""
    fault: str = ""
    """"missing", "unreadable", or empty"""
    reason: str = ""
    orientation: int = 1
    """The EXIF orientation that the file carries, 1 to 8"""
    cmyk: bool = False
    """Stored as CMYK"""


@dataclass(frozen=True)
class Batch:
    """Some images of a set, including those that gave no pixels.

    Which images share a batch is fixed by their numbers alone, because the last bits of a matrix product depend on its shape: so a set
    that several processes share out gets the bits of one process.
    """

    images: Sequence[Decoded]
    pixels: NDArray[np.float32]
    """(len(numbers), 3, crop_size, crop_size), normalised"""

    @property
    def numbers(self) -> list[int]:
        """The places in the set of the images that have pixels."""
        return [one.number for one in self.images if one.crop is not None]


@dataclass(frozen=True)
class Decoder:
    """Decodes the images of a set by number. A failure is a result, too: nothing is raised for a missing or damaged image."""

    images: LabelledImages
    transform: ImageTransform

    def __call__(self, number: int) -> Decoded:
        try:
            picture = self.images.picture(number)
            crop = np.asarray(self.transform.crop(picture.image))
        except FileNotFoundError:
            return Decoded(number, fault="missing", reason="no such file")
        except Exception as error:  # whatever a decoder raises, it costs this one image
            return Decoded(number, fault="unreadable", reason=first_line(error))
        return Decoded(
            number, crop, f"{zlib.crc32(crop.tobytes()):08x}", orientation=picture.orientation, cmyk=picture.cmyk
        )


_of_this_worker: list[Decoder] = []  # filled in worker processes only, by _begin_worker


def _begin_worker(decoder: Decoder) -> None:
    """Keep the decoder, leave Ctrl-C to the parent, and end when the parent has ended, even by SIGKILL."""
    _of_this_worker.append(decoder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _decode(number: int) -> Decoded:
    return _of_this_worker[0](number)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module: a started process imports its parent's, so a script without a guard would run again in every worker."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def in_workers(decoder: Decoder, numbers: Iterable[int], workers: int, ahead: int) -> Generator[Decoded, None, None]:
    """Decode in order in `workers` processes, at most `ahead` images beyond the next result."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    main_is_needed = "__main__" in (type(decoder.images).__module__, type(decoder.transform).__module__)
    with ProcessPoolExecutor(workers, context, _begin_worker, (decoder,)) as pool:
        waiting: deque[Future[Decoded]] = deque()
        try:
            for number in numbers:
                with (
                    nullcontext() if main_is_needed else _without_main()
                ):  # submitting starts workers, up to their number
                    waiting.append(pool.submit(_decode, number))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise InputError(
                f"A decoding process of {decoder.images.name} ended early (most often the system killed it to free memory): "
                "run again with fewer workers, or with workers=0 to decode in the notebook's own process."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _grouped(
    decoded: Iterator[Decoded], groups: Iterable[Sequence[int]], transform: ImageTransform
) -> Generator[Batch, None, None]:
    """The results in batches of these groups of images."""
    side = transform.crop_size
    for group in groups:
        images = list(islice(decoded, len(group)))
        crops = [one.crop for one in images if one.crop is not None]
        yield Batch(images, transform.normalised(np.array(crops, np.uint8).reshape(-1, side, side, 3)))


def _one_ahead(batches: Iterator[Batch]) -> Generator[Batch, None, None]:
    """Prepare each batch in a thread while the one before it is used."""
    with ThreadPoolExecutor(1, "next batch") as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch


def _sampled(decoder: Decoder, numbers: Iterable[int]) -> tuple[list[Decoded], float]:
    """The first images, and the median seconds of one image without the very first, which also loads Pillow's plugins."""
    first, seconds = [], [0.0]
    for number in islice(numbers, SAMPLE):
        began = time.perf_counter()
        first.append(decoder(number))
        seconds.append(time.perf_counter() - began)
    return first, statistics.median(seconds[1:] or seconds)


def why_no_workers() -> str:
    """Why decoding processes cannot be started on this machine, in words; empty where they can. They share locks through /dev/shm."""
    try:
        multiprocessing.get_context("forkserver").Lock()
    except OSError as error:
        return f"shared memory (/dev/shm) cannot be used: {error.strerror}"
    return ""


def check_workers(workers: int) -> None:
    """Raise InputError for a number of decoding processes that cannot be started here; AUTO does without them."""
    reason = why_no_workers() if workers > 0 else ""
    if reason:
        raise InputError(f"workers={workers}: {reason}; run with workers=0 to decode in the notebook's own process.")


def in_order(count: int, batch_size: int) -> list[Sequence[int]]:
    """The numbers of a set's images in batches, in order; only the last may have fewer."""
    return [range(first, min(first + batch_size, count)) for first in range(0, count, batch_size)]


def batches(
    images: LabelledImages,
    transform: ImageTransform,
    batch_size: int,
    workers: int = AUTO,
    groups: Sequence[Sequence[int]] | None = None,
    processes: int = 1,
) -> Generator[Batch, None, None]:
    """The images of a set in order, in batches; close the iterator to end the workers early.

    groups: the numbers of the images of each batch, at most `batch_size`, where it is not the whole set.
    workers: decoding processes; 0: decode in this process, in turn with the device. AUTO times the first images and, if the rest
    takes longer than WORTHWHILE_SECONDS, starts a process for every core but one. processes: that do the same on this machine, and
    share the cores. Raises InputError when a worker is killed, and for workers that cannot be started.
    """
    check_workers(workers)
    decoder = Decoder(images, transform)
    groups = in_order(len(images), batch_size) if groups is None else groups
    numbers = chain.from_iterable(groups)
    first: list[Decoded] = []
    if workers == AUTO:
        first, seconds = _sampled(decoder, numbers)
        worthwhile = seconds * (sum(map(len, groups)) - len(first)) > WORTHWHILE_SECONDS
        workers = min(max(1, cores() // processes - 1), MOST_WORKERS) if worthwhile and not why_no_workers() else 0
    if workers == 0:
        yield from _grouped(chain(first, map(decoder, numbers)), groups, transform)
        return
    with (
        closing(in_workers(decoder, numbers, workers, ahead=batch_size + 2 * workers)) as decoded,
        closing(_one_ahead(_grouped(chain(first, decoded), groups, transform))) as ready,
    ):
        yield from ready
