"""Small image sets, whole and damaged, for the cases."""

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

COLOURS = ("red", "green", "blue")


def encoded(colour: str = "red", kind: str = "PNG") -> bytes:
    """An image file of 40 x 40 pixels."""
    file = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(file, kind)
    return file.getvalue()


def random_model(**given: Any) -> dict[str, Any]:
    """A small network of random weights, whose classes are called class 0 to class 999."""
    return {
        "model": "random:tiny-224",
        "batch_size": 4,
        "workers": 0,
        **{name: str(value) for name, value in given.items()},
    }


def class_folder(folder: Path, name: str = "class 1") -> Path:
    """A set with one class of two images; gives the folder of the class."""
    place = folder / "set" / name
    place.mkdir(parents=True)
    for colour in COLOURS[:2]:
        (place / f"{colour}.png").write_bytes(encoded(colour))
    return place


def with_file(name: str, content: bytes) -> Callable[[Path], Mapping[str, Any]]:
    """Two good images, and a file in the same folder."""

    def make(folder: Path) -> Mapping[str, Any]:
        (class_folder(folder) / name).write_bytes(content)
        return random_model(data=folder / "set")

    return make


def with_image(name: str, image: Image.Image, **options: Any) -> Callable[[Path], Mapping[str, Any]]:
    """Two good images, and one more."""

    def make(folder: Path) -> Mapping[str, Any]:
        image.save(class_folder(folder) / name, **options)
        return random_model(data=folder / "set")

    return make


def labelled(text: bytes, **given: Any) -> Callable[[Path], Mapping[str, Any]]:
    """Three images in one folder, and a text file of labels."""

    def make(folder: Path) -> Mapping[str, Any]:
        flat(folder)
        (folder / "labels.txt").write_bytes(text)
        return random_model(data=folder / "set", labels=folder / "labels.txt", **given)

    return make


def flat(folder: Path) -> None:
    """Three images in one folder, called like the first validation images."""
    (folder / "set").mkdir()
    for number, colour in enumerate(COLOURS, 1):
        (folder / "set" / f"ILSVRC2012_val_{number:08d}.png").write_bytes(encoded(colour))


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """A member of a tar file."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def packed(members: Sequence[tuple[str, bytes]] = (), mode: Any = "w", **options: Any) -> bytes:
    """A tar file of three labelled images, and of further members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, **options) as archive:
        for number, colour in enumerate(COLOURS):
            add(archive, f"{colour}.png", encoded(colour))
            add(archive, f"{colour}.cls", f"class {number}".encode())
        for name, content in members:
            add(archive, name, content)
    return file.getvalue()


def tar_of(content: bytes | Callable[[], bytes], name: str = "set.tar") -> Callable[[Path], Mapping[str, Any]]:
    """A file of these bytes as the image set."""

    def make(folder: Path) -> Mapping[str, Any]:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content())
        return random_model(data=folder / name)

    return make


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The header of a tar member of any size."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def parquet_of(
    cells: Sequence[Any], labels: Any, changed: Callable[[bytes], bytes] = bytes, **options: Any
) -> Callable[[Path], Mapping[str, Any]]:
    """A parquet file of images and labels, and what is then done to its bytes."""

    def make(folder: Path) -> Mapping[str, Any]:
        import pyarrow
        from pyarrow import parquet

        kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        path = folder / "set.parquet"
        parquet.write_table(pyarrow.table({"image": pyarrow.array(cells, kind), "label": labels}), path, **options)
        path.write_bytes(changed(path.read_bytes()))
        return random_model(data=path)

    return make


def repeated(content: bytes, name: str, rows: int = 300) -> Callable[[Path], Mapping[str, Any]]:
    """A parquet file of less than 3 kB whose rows all hold the same values, each stored once."""

    def make(folder: Path) -> Mapping[str, Any]:
        import pyarrow
        from pyarrow import parquet

        once = [
            pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows, pyarrow.int32()), [value])
            for value in (content, name)
        ]
        table = pyarrow.table(
            {"image": pyarrow.StructArray.from_arrays(once, ["bytes", "path"]), "label": ["class 1"] * rows}
        )
        options = {
            "compression": "zstd",
            "dictionary_pagesize_limit": 2**24,
            "write_statistics": False,
            "store_schema": False,
        }
        parquet.write_table(table, folder / "set.parquet", **options)
        assert (folder / "set.parquet").stat().st_size < 3_000
        return random_model(data=folder / "set.parquet")

    return make
