"""Cases: paths, parameter values, references, and what else is in a folder."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from ivit_helpers.paths import DATA
from tests.hostile.case import Case

Made = dict[str, Any]


def given(**parameters: Any) -> Callable[[Path], Made]:
    """Parameters that need no file."""
    return lambda _: {"device": "cpu", **parameters}


def at(name: str, make: Callable[[Path], object], **parameters: Any) -> Callable[[Path], Made]:
    """A parameter that is the path of something that `make` makes; {} in another parameter's value is that path, too."""

    def made(folder: Path) -> Made:
        place = folder / "place"
        make(place)
        return {"device": "cpu", name: place} | {
            key: str(value).replace("{}", str(place)) for key, value in parameters.items()
        }

    return made


def text(content: str | bytes = "mine") -> Callable[[Path], object]:
    return lambda place: place.write_bytes(content if isinstance(content, bytes) else content.encode())


def socket_at(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(os.path.relpath(place))


def loop(place: Path) -> None:
    place.symlink_to(place)


def picture(size: tuple[int, int]) -> Callable[[Path], object]:
    return lambda place: Image.new("L", size).save(place, "PNG")


def half_a_picture(place: Path) -> None:
    Image.effect_noise((80, 80), 50).save(place, "PNG")
    place.write_bytes(place.read_bytes()[:900])


def bomb(place: Path) -> None:
    """A PNG of 60,000 x 60,000 pixels, 3.6 GB unpacked, in a few kilobytes."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    place.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


COLUMNS = "id,label,outcome,pixels,class1,score1,margin,run"


def run_left(**changes: Any) -> Callable[[Path], object]:
    """An accuracy run's folder whose record has these contents besides."""

    def make(place: Path) -> None:
        place.mkdir()
        (place / "accuracy_predictions.csv").write_text(f"{COLUMNS}\na,1,scored,0,1,.5,1,f00d\n")
        record = {
            "schema": 2,
            "id": "f00d",
            "notebook": "accuracy",
            "started": "2026-01-01T00:00:00+00:00",
            "concluded": True,
            **changes,
        }
        (place / "accuracy.json").write_text(json.dumps(record))

    return make


def own_reference(folder: Path) -> Made:
    run_left()(folder / "run")
    return {"device": "cpu", "reference": folder / "run"}


def reference_record_is(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def made(place: Path) -> None:
        run_left()(place)
        (place / "accuracy.json").unlink()
        make(place / "accuracy.json")

    return made


def reference_table_is(content: bytes) -> Callable[[Path], object]:
    def made(place: Path) -> None:
        run_left()(place)
        (place / "accuracy_predictions.csv").write_bytes(content)

    return made


BELOW_A_FILE = [
    Case(
        "an output folder below a file",
        at("image_path", text(), out="{}/run"),
        "cannot be written",
        "smoke",
    ),
    Case(
        "an output folder below a pipe",
        at("image_path", os.mkfifo, out="{}/run"),
        "cannot be written",
        "smoke",
    ),
]
OUTPUT = [
    Case("a file in place of the output folder", at("out", text()), "cannot be written", "smoke"),
    Case("a pipe in place of the output folder", at("out", os.mkfifo), "cannot be written", "smoke"),
    Case("a socket in place of the output folder", at("out", socket_at), "cannot be written", "smoke"),
    Case("a device in place of the output folder", given(out="/dev/full"), "cannot be written", "smoke"),
    Case(
        "an output folder in a loop of links",
        at("out", loop),
        "Symlink loop|cannot be written",
        "smoke",
    ),
    Case("an output folder in /proc", given(out="/proc/run"), "cannot be written", "smoke"),
    Case("an output folder with a name of 300 characters", given(out="/tmp/" + "n" * 300), "name too long", "smoke"),
    Case(
        "an output folder of an unknown user",
        given(out="~nobody-of-this-name/run"),
        "home directory",
        "smoke",
    ),
    *BELOW_A_FILE,
]
VALUES = [
    Case("a parameter with a slip of the pen", given(batch_sise=2), "did you mean batch_size", "smoke"),
    Case("a number in words", given(batch_size="eight"), "Allowed: images in the synthetic batch", "smoke"),
    Case("a negative number", given(batch_size=-1), "Allowed: images in the synthetic batch", "smoke"),
    Case("a number beyond all floats", given(batch_size="1e999"), "Allowed: images in the synthetic batch", "smoke"),
    Case("a number of 6,000 digits", given(batch_size="9" * 6000), "Allowed: images in the synthetic batch", "smoke"),
    Case(
        "100,000 opening brackets", given(batch_size="[" * 100_000), "Allowed: images in the synthetic batch", "smoke"
    ),
    Case("a whole number with a fraction", given(batch_size=8.5), "Allowed: images in the synthetic batch", "smoke"),
    Case("true in place of a number", given(batch_size="true"), "Allowed: images in the synthetic batch", "smoke"),
    Case("an empty list of batch sizes", given(batch_sizes="[]"), "Allowed: batch sizes to sweep", "benchmark"),
    Case("a batch size of a million", given(batch_sizes="[1,1000000]"), "Allowed: batch sizes to sweep", "benchmark"),
    Case("not-a-number seconds", given(seconds="nan"), "cannot use seconds='nan'", "benchmark"),
    Case("infinite seconds", given(seconds="1e999"), "cannot use seconds='1e999'", "benchmark"),
    Case("an unknown implementation", given(implementations="magic"), "Allowed: what to compare", "benchmark"),
    Case("a device that does not exist", given(device="tpu"), "cannot use device='tpu'", "smoke"),
    Case("code in place of a device", given(device="__import__('os').system('id')"), "cannot use device", "smoke"),
    Case("an unknown dtype", given(dtype="int4"), "cannot use dtype='int4'", "smoke"),
    Case("no model", given(model=""), "cannot use model=''", "smoke"),
]
PICTURES = [
    Case("a picture that is not there", given(image_path="/no/such.png"), "does not exist", "smoke"),
    Case("a folder in place of a picture", at("image_path", Path.mkdir), "is not a file", "smoke"),
    Case("a pipe in place of a picture", at("image_path", os.mkfifo), "is not a file", "smoke"),
    Case("a device without end in place of a picture", given(image_path="/dev/zero"), "is not a file", "smoke"),
    Case("a text in place of a picture", at("image_path", text()), "cannot be read as an image", "smoke"),
    Case("an empty file in place of a picture", at("image_path", text("")), "cannot be read as an image", "smoke"),
    Case("half a picture", at("image_path", half_a_picture), "cannot be read as an image", "smoke"),
    Case("a picture in a loop of links", at("image_path", loop), "does not exist|cannot be read as an image", "smoke"),
    Case(
        "a picture that unpacks to 3.6 GB",
        at("image_path", bomb),
        "cannot be read as an image .*decompression bomb",
        "smoke",
    ),
    Case(
        "a picture of 1 x 60,000 pixels",
        at("image_path", picture((1, 60_000))),
        "too narrow",
        "smoke",
        ends="incomplete",
    ),
]
REFERENCES = [
    Case("a reference that is not there", given(reference="/no/such/run"), "there is no file", "accuracy"),
    Case("a reference without its record", at("reference", lambda p: (run_left()(p), (p / "accuracy.json").unlink())), "cannot be read"),
    Case("a reference that did not finish", at("reference", run_left(concluded=False)), "did not finish"),
    Case("a reference whose batch was killed before it was judged", at("reference", run_left(batch=True)), "ended early"),
    Case("a reference whose table was written by another run", at("reference", run_left(tables={"accuracy_predictions.csv": "0" * 64})),
         "by its SHA-256"),
    Case("a reference that is the run itself", own_reference, "is in this run's own folder"),
    Case("a folder in place of a reference's record", at("reference", reference_record_is(Path.mkdir)), "cannot be read"),
    Case("a reference's record of 100,000 brackets", at("reference", reference_record_is(text("[" * 100_000))), "is not a record"),
    Case("a reference's record that is not UTF-8", at("reference", reference_record_is(text(b"\xff\xfe{"))), "is not a record"),
    Case("a reference's record of another notebook", at("reference", run_left(notebook="smoke")), "did not finish|is not a record"),
    Case("a reference's table without columns", at("reference", reference_table_is(b"")), "is not a table of predictions"),
    Case("a reference's table of zeros", at("reference", reference_table_is(bytes(10_000))), "is not a table of predictions"),
    Case("a reference's table with one image twice",
         at("reference", reference_table_is(f"{COLUMNS}\na,1,scored,0,1,.5,1,f\na,1,scored,0,1,.5,1,f\n".encode())), "is in it twice"),
    Case("a pipe in place of a reference", at("reference", os.mkfifo), "there is no file"),
    Case("a picture in place of a reference", given(reference=next((DATA / "digits").rglob("*.png"))), "is not a table of predictions"),
]  # fmt: skip


def states(content: bytes) -> Callable[[Path], Made]:
    """A file of these bytes as the other side of an explore run."""
    return at("other", text(content))


def forged_states(place: Path) -> None:
    """States of an image that nobody looked at, in the right format."""
    import torch
    from safetensors.torch import save_file

    origin = {
        "image": "<b>mine</b>",
        "checksum": "0",
        "model": "m",
        "device": "d",
        "dtype": "float32",
        "peer_errors": None,
    }
    save_file({f"after.{block:03d}": torch.zeros(257, 128) for block in range(5)}, place, {"ivit": json.dumps(origin)})


EXPLORED = [
    Case("a pipe in place of another run's states", at("other", os.mkfifo), "is not a file", "explore"),
    Case("an endless device in place of another run's states", given(other="/dev/zero"), "is not a file", "explore"),
    Case("a folder in place of another run's states", at("other", Path.mkdir), "is not a file", "explore"),
    Case("another run's states that are not there", given(other="/no/such/file"), "does not exist", "explore"),
    Case("noise in place of another run's states", states(b"\1\2\3" * 1000), "has a header of", "explore"),
    Case("states with a header of 4 EiB", states((2**62).to_bytes(8, "little") + b"{}"), "has a header of", "explore"),
    Case(
        "states that are cut off",
        states((100).to_bytes(8, "little") + b'{"after.000"'),
        "holds no states of a run",
        "explore",
    ),
    Case("states of another image", at("other", forged_states), "is of the image", "explore", "incomplete"),
    Case("a pipe in place of a gallery", at("gallery", os.mkfifo), "There is no folder", "explore"),
    Case("an empty gallery", at("gallery", Path.mkdir), "There are no images in", "explore"),
    Case("a gallery below a path with a NUL", given(gallery="a\0b"), "There is no folder|cannot be a path", "explore"),
    Case(
        "a block that the network does not have", given(block=5), "block=5 is not in this network: it has 4", "explore"
    ),
    Case("a patch of a thousand digits", given(patch="9" * 1000), "is not in this network|Allowed", "explore"),
    Case("a pipe in place of an image to look at", at("image_path", os.mkfifo), "is not a file", "explore"),
]
CASES = [*OUTPUT, *VALUES, *PICTURES, *REFERENCES, *EXPLORED]
