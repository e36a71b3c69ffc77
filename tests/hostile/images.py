"""Cases: image sets, archives and label files."""

import json
import os
import socket
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.hostile.case import Case
from tests.hostile.image_makers import (
    class_folder,
    encoded,
    flat,
    header,
    labelled,
    packed,
    parquet_of,
    random_model,
    repeated,
    tar_of,
    with_file,
    with_image,
)

ZERO = bytes(512)
END = 2 * ZERO
CELL = {"bytes": encoded(), "path": "a.png"}


def only_text(folder: Path) -> dict[str, Any]:
    (folder / "set" / "cat").mkdir(parents=True)
    (folder / "set" / "cat" / "a.txt").write_text("no image")
    return {"model": "tiny", "data": folder / "set"}


def one_truncated(folder: Path) -> dict[str, Any]:
    place = class_folder(folder)
    (place / "c.png").write_bytes(encoded()[:60])
    return random_model(data=folder / "set")


def no_classes(folder: Path) -> dict[str, Any]:
    flat(folder)
    return random_model(data=folder / "set")


def empty_folder(folder: Path) -> dict[str, Any]:
    (folder / "set").mkdir()
    return random_model(data=folder / "set", image_set="real", labels=real(folder, "[" + "[1]," * 49_999 + "[1]]"))


def real(folder: Path, text: str) -> Path:
    (folder / "real.json").write_text(text)
    return folder / "real.json"


def links_that_multiply(folder: Path) -> dict[str, Any]:
    class_folder(folder)
    for number in range(10):
        (folder / "set" / f"{number}").mkdir()
        for link in range(10):
            (folder / "set" / f"{number}" / f"{link}").symlink_to(folder / "set" / f"{number + 1}")
    return random_model(data=folder / "set")


def companions(folder: Path) -> dict[str, Any]:
    place = class_folder(folder)
    for name in ("README", "Thumbs.db", ".DS_Store", "notes.json"):
        (place / name).write_text("no image")
    return random_model(data=folder / "set")


def beside_the_classes(folder: Path) -> dict[str, Any]:
    class_folder(folder)
    (folder / "set" / "lost.png").write_bytes(encoded())
    return random_model(data=folder / "set")


def linked_class(folder: Path) -> dict[str, Any]:
    class_folder(folder)
    (folder / "set").rename(folder / "elsewhere")
    (folder / "set").mkdir()
    (folder / "set" / "class 1").symlink_to(folder / "elsewhere" / "class 1")
    (folder / "set" / "class 1" / "round").symlink_to(folder / "set")
    return random_model(data=folder / "set")


def pipe_and_socket(folder: Path) -> dict[str, Any]:
    place = class_folder(folder)
    os.mkfifo(place / "pipe.png")
    here = Path.cwd()
    os.chdir(place)  # a socket's name is short
    socket.socket(socket.AF_UNIX).bind("socket.jpg")
    os.chdir(here)
    return random_model(data=folder / "set")


def link_to_nothing(folder: Path) -> dict[str, Any]:
    (class_folder(folder) / "gone.png").symlink_to("/no/such/file.png")
    return random_model(data=folder / "set")


def too_deep(folder: Path) -> dict[str, Any]:
    place = class_folder(folder)
    here = Path.cwd()
    os.chdir(place)
    for _ in range(17):
        Path("d" * 250).mkdir()
        os.chdir("d" * 250)
    Path("deep.png").write_bytes(encoded())
    os.chdir(here)
    return random_model(data=folder / "set")


def odd_class_names(folder: Path) -> dict[str, Any]:
    for name in (r"$\frac{$", "<script>alert(1)<", "two\nlines\x1b[31m", "W" * 250, "'; DROP TABLE"):
        class_folder(folder, name)
    return random_model(data=folder / "set", classes="by-order")


def names_in_another_encoding(folder: Path) -> dict[str, Any]:
    place = class_folder(folder)
    (place / os.fsdecode(b"\xff\xfe.png")).write_bytes(encoded())
    return random_model(data=folder / "set")


def kinds_of_images(folder: Path) -> dict[str, Any]:
    place = class_folder(folder)
    frames = [Image.new("P", (40, 40), colour) for colour in (0, 1)]
    frames[0].save(place / "animated.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(place / "16-bit.png")
    Image.new("CMYK", (40, 40)).save(place / "cmyk.jpg")
    Image.new("1", (40, 40)).save(place / "1-bit.tif")
    return random_model(data=folder / "set")


def split_by_name(folder: Path) -> dict[str, Any]:
    (folder / "set").mkdir()
    for name in ("carnival.tar", "more.tar"):
        (folder / "set" / name).write_bytes(packed())
    return random_model(data=folder / "set")


def link_in_a_tar(folder: Path) -> dict[str, Any]:
    member = tarfile.TarInfo("link.png")
    member.type, member.linkname = tarfile.LNKTYPE, "red.png"
    (folder / "set.tar").write_bytes(packed()[: -tarfile.RECORDSIZE] + member.tobuf() + END)
    with tarfile.open(folder / "set.tar", "w") as archive:
        for name in ("red.png", "green.png"):
            image = tarfile.TarInfo(name)
            image.size = len(encoded())
            (folder / name).write_bytes(encoded())
            archive.addfile(image, (folder / name).open("rb"))
        archive.addfile(member)
    return random_model(data=folder / "set.tar")


def huge_header(folder: Path) -> dict[str, Any]:
    (folder / "set.tar").write_bytes(header("pax", 8 * 2**30, tarfile.XHDTYPE))
    os.truncate(folder / "set.tar", 9 * 2**30)
    return random_model(data=folder / "set.tar")


def chained_headers() -> bytes:
    return (
        b"".join(header("pax", 512, tarfile.XHDTYPE) + b"11 path=ab\n".ljust(512, b"\0") for _ in range(3000))
        + packed()
    )


def long_name() -> bytes:
    return header("././@LongLink", 60_000, tarfile.GNUTYPE_LONGNAME) + b"n" * 60_000 + bytes(-60_000 % 512) + packed()


def long_number() -> bytes:
    text = b"9" * 60_000
    return header("pax", len(text), tarfile.XHDTYPE) + text + bytes(-len(text) % 512) + packed()


def broken_inside(at: int, content: bytes) -> bytes:
    whole = packed()
    return whole[:at] + content + whole[at + len(content) :]


def pipe_as(name: str, **given: Any) -> Any:
    def make(folder: Path) -> dict[str, Any]:
        flat(folder)
        os.mkfifo(folder / name)
        return random_model(**{"data": folder / "set", **dict.fromkeys(given, folder / name)})

    return make


def sparse_as(name: str, size: int, key: str, **given: Any) -> Any:
    def make(folder: Path) -> dict[str, Any]:
        flat(folder)
        (folder / name).touch()
        os.truncate(folder / name, size)
        return random_model(**{"data": folder / "set", key: folder / name, **given})

    return make


def real_of(text: str) -> Any:
    def make(folder: Path) -> dict[str, Any]:
        flat(folder)
        return random_model(data=folder / "set", image_set="real", labels=real(folder, text))

    return make


def meta_of(content: bytes) -> Any:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "meta.mat").write_bytes(content)
        return labelled(b"490\n361\n383\n", image_set="imagenet-1k")(folder)

    return make


def huge_matrix() -> bytes:
    """A MATLAB file with a variable `synsets` that declares a matrix of 2**31 - 1 numbers."""
    flags = np.array([6, 8, 6, 0], "<u4").tobytes()
    size = np.array([5, 8, 2**31 - 1, 1], "<i4").tobytes()
    name = np.array([1, 7], "<u4").tobytes() + b"synsets\0"
    body = flags + size + name + np.array([9, 2**31 - 8], "<u4").tobytes()
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + np.array([14, len(body)], "<u4").tobytes() + body


def names_pipe(folder: Path) -> dict[str, Any]:
    class_folder(folder)
    os.mkfifo(folder / "names.txt")
    return random_model(data=folder / "set", class_names=folder / "names.txt")


def changed_footer(content: bytes) -> bytes:
    return content[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1"


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'
BOMB = Image.new("1", (20_000, 20_000))
CASES = [
    Case("a class folder without images", only_text, "holds no class folders with images"),
    Case("one image of three ends early", one_truncated, "1 unreadable, missing or non-finite", ends="failed"),
    Case("images without class folders and without labels", no_classes, "holds no class folders with images"),
    Case("an empty folder of images", empty_folder, "There are no images in"),
    Case("a set that is not there", lambda folder: random_model(data=folder / "none"), "There is no folder"),
    Case("a text file as the image set", tar_of(b"hello", "set.txt"), "is neither a folder nor a .parquet or .tar file"),
    Case("links to folders that multiply to ten billion folders", links_that_multiply, "holds more than 16 links to one folder"),
    Case("a README, a Thumbs.db and hidden files among the images", companions, "0 of the 4 files left aside could be images",
         ends="not_judged"),
    Case("an image beside the class folders", beside_the_classes, r"lost\.png \(an image beside the class folders", ends="failed"),
    Case("an image with an unknown suffix",
         with_file("c.jfif", encoded(kind="JPEG")), r"c\.jfif \(an image by its first bytes", ends="failed"),
    Case("a zip file among the images", with_file("more.zip", b"PK\3\4"), r"more\.zip \(an archive, which may hold images", ends="failed"),
    Case("a class folder that is a link, with a link back to the whole set", linked_class, "a link back to a folder that contains it",
         ends="not_judged"),
    Case("a pipe and a socket that are called like images", pipe_and_socket, r"pipe\.png \(a pipe, socket or device", ends="failed"),
    Case("a link to an image that is not there", link_to_nothing, r"gone\.png \(missing: no such file", ends="failed"),
    Case("folders deeper than a path can name", too_deep, r"cannot be read \(File name too long", ends="failed"),
    Case("class names with formulas, markup, control characters and 250 letters",
         odd_class_names, "10 images .* went through", ends="not_judged"),
    Case("a file name that is not UTF-8", names_in_another_encoding, "3 images of set went through", ends="not_judged"),
    Case("animated, 16-bit, 1-bit and CMYK images", kinds_of_images, '"scored": 6, "unreadable": 0', ends="not_judged"),
    Case("an image file of zero bytes", with_file("c.png", b""), "1 unreadable, missing or non-finite", ends="failed"),
    Case("an SVG called .png", with_file("c.png", SVG), "1 unreadable, missing or non-finite", ends="failed"),
    Case("an image of 400 million pixels in a few kB", with_image("c.png", BOMB), "exceeds limit of", ends="failed"),
    Case("an image of 1 x 60,000 pixels", with_image("c.png", Image.new("RGB", (1, 60_000))), "are too narrow", ends="failed"),
    Case("an empty tar file", tar_of(b""), "cannot be read as a tar file to its end"),
    Case("a compressed tar file", tar_of(lambda: packed(mode="w:gz")), "damaged, incomplete or compressed"),
    Case("a .tar.gz file", tar_of(lambda: packed(mode="w:gz"), "set.tar.gz"), "unpack an archive of another kind"),
    Case("a tar file of noise", tar_of(np.random.default_rng(0).bytes(20_000)), "cannot be read as a tar file to its end"),
    Case("a tar file that ends inside an image", tar_of(lambda: packed()[:600]), "cannot be read as a tar file to its end"),
    Case("a tar file with zeros in its middle", tar_of(lambda: broken_inside(1024, END)), "there is more after the end mark at byte 1,024"),
    Case("a tar file with a broken header in its middle",
         tar_of(lambda: broken_inside(1024, b"x" * 512)), "there is more after the end mark"),
    Case("two tar files joined to one", tar_of(lambda: packed() + packed()), "there is more after the end mark"),
    Case("a tar file whose second half is zeros", tar_of(lambda: packed()[:2048] + bytes(50_000)), "the rest of it did not arrive"),
    Case("a tar file without images", tar_of(header("a.txt", 0) + END), "There are no images in"),
    Case("a tar header that says it has 8 GiB", huge_header, "a header of 8,589,934,592 bytes"),
    Case("a tar file of 3,000 headers for one member", tar_of(chained_headers), "hundreds of headers for one member"),
    Case("a tar member of negative size", tar_of(lambda: header("a.png", -10_000) + packed()), "a member that ends before it begins"),
    Case("a tar member of 2**60 bytes", tar_of(lambda: header("a.png", 2**60) + packed()), "a member that ends after the file"),
    Case("a tar member with a name of 60,000 letters", tar_of(long_name), "a member's name of 60,000 characters"),
    Case("a tar header with a number of 60,000 digits", tar_of(long_number), "a number of more than 99 digits"),
    Case("a label of 1 MB in a tar file",
         tar_of(lambda: packed([("a.cls", b"x" * 2**20)])), "1,048,576 bytes: a .cls member holds one class"),
    Case("a label in a tar file that is not text", tar_of(lambda: packed([("a.cls", b"\xff\xfe")])),
         r"Not classes of the model: \\xff\\xfe"),
    Case("two images of one name in a tar file", tar_of(lambda: packed([("red.png", encoded())])), "two images called red"),
    Case("a link among the members of a tar file", link_in_a_tar, r"link\.png \(a link, sparse file or device in a tar", ends="failed"),
    Case("a second tar file that a word in the first one's name hides", split_by_name, r"more\.tar \(does not have `val`", ends="failed"),
    Case("a pipe in place of a tar file", pipe_as("set.tar", data=1), r"There is no file .*set\.tar"),
    Case("an empty parquet file", tar_of(b"", "set.parquet"), "does not end as a parquet file does"),
    Case("a parquet file of noise", tar_of(b"PAR1" + np.random.default_rng(0).bytes(5_000) + b"\x10\0\0\0PAR1", "set.parquet"),
         "cannot be read as parquet"),
    Case("a parquet file whose metadata claim 2 GiB",
         parquet_of([CELL], ["class 1"], changed_footer), "does not end as a parquet file does"),
    Case("a parquet file without rows", parquet_of([], np.zeros(0, np.int64)), "There are no images in"),
    Case("a parquet file whose labels are lists", parquet_of([CELL], [["class 1"]]), "labels are lists or records"),
    Case("a parquet label of one billion", parquet_of([CELL], [10**9]), "has the label 1000000000"),
    Case("a parquet file of empty and of damaged cells",
         parquet_of([CELL, None, {"bytes": None, "path": None}, {"bytes": b"x", "path": None}], ["class 1"] * 4),
         "3 unreadable, missing or non-finite", ends="failed"),
    Case("names that take 2.7 GB once a parquet file of 1 kB is unpacked", repeated(b"x", "n" * 9_000_000), "cannot be read as parquet"),
    Case("images that take 2.7 GB once a parquet file of 1 kB is unpacked", repeated(bytes(9_000_000), "a.png"),
         "300 unreadable, missing or non-finite", ends="failed"),
    Case("a pipe in place of a label file", pipe_as("labels.txt", labels=1), "is not a regular file"),
    Case("a folder in place of a label file",
         lambda folder: labelled(b"")(folder) | {"labels": str(folder)}, "is not a regular file|directory"),
    Case("an endless device in place of a label file",
         lambda folder: labelled(b"")(folder) | {"labels": "/dev/zero"}, "not a regular file"),
    Case("a label file of 3 GiB", sparse_as("labels.txt", 3 * 2**30, "labels"), "it has more than 134,217,728 bytes"),
    Case("a label file of five million lines", labelled(b"\n" * 5_000_000), "has more than 3,000,000 lines"),
    Case("an empty label file", labelled(b""), r"holds lines of \[\] words"),
    Case("a label file in UTF-16", labelled("a 1\n".encode("utf-16")), "cannot be read"),
    Case("a label file with NUL bytes", labelled(b"a 1\nb\0 2\n"), "holds NUL bytes"),
    Case("a label of 5,000 digits", labelled(b"ILSVRC2012_val_00000001.png " + b"9" * 5_000), "has a word of 5,000 characters"),
    Case("a label of one billion", labelled(b"ILSVRC2012_val_00000001.png 1000000000"), "has the label 1000000000"),
    Case("a label in other digits than 0 to 9", labelled("ILSVRC2012_val_00000001.png ٣".encode()), "Not classes of the model: ٣"),
    Case("a superscript as a label", labelled("²\n²\n²\n".encode()), "Not classes of the model: ²"),
    Case("a line of a million letters", labelled(b"a" * 10**6), "has a word of 1,000,000 characters"),
    Case("an image with two labels", labelled(b"a 1\na 2\n"), "names a 2 times"),
    Case("labels of other images", labelled(b"other.png 1\n"), "None of the 1 images that the labels name"),
    Case("a pipe in place of a file of class names", names_pipe, "is not a regular file"),
    Case("ReaL labels nested 100,000 deep", real_of("[" * 100_000), "cannot be read as ReaL labels"),
    Case("a file of ReaL labels of 3 GiB",
         sparse_as("real.json", 3 * 2**30, "labels", image_set="real"), "it has more than 16,777,216 bytes"),
    Case("ReaL labels that are fractions", real_of("[" + "[1.0]," * 49_999 + "[1]]"), "does not hold 50,000 lists of class indices"),
    Case("ReaL labels that are an object", real_of(json.dumps({"a": 1})), "does not hold 50,000 lists of class indices"),
    Case("a meta.mat of noise", meta_of(np.random.default_rng(0).bytes(5_000)), "cannot be read as the devkit's meta.mat"),
    Case("a meta.mat that declares 16 GiB", meta_of(huge_matrix()), "cannot be read as the devkit's meta.mat"),
]  # fmt: skip
