"""What is in an image set and is not one of its images is counted and named, whatever the layout."""

import os
import re
import tarfile
from pathlib import Path

import pytest

from ivit_helpers.errors import InputError
from ivit_helpers.images import folders, layouts
from tests.images.test_layouts import COLOURS, add, asked, encoded, packed, write_parquet

PICTURE = encoded(COLOURS[0])


@pytest.fixture
def place(tmp_path):
    """The folder of a class with one image."""
    folder = tmp_path / "set" / "3"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(PICTURE)
    return folder


def left_aside(found):
    """Name -> (reason, whether it could be an image)."""
    return {one.name: (one.reason, one.image) for one in found.left_aside}


def read(folder, **others):
    return layouts.image_set(asked(folder, image_set="folder", **others))


@pytest.mark.parametrize(
    ("name", "content", "reason", "could_be_an_image"),
    [
        ("README", b"words", "not an image", False),
        ("notes.txt", b"words", "not an image", False),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0", "not an image", False),
        (".DS_Store", b"", "hidden", False),
        ("empty", b"", "not an image", False),
        ("b.png.part", PICTURE, "an image by its first bytes, with the suffix .part", True),
        ("b", PICTURE, r"an image by its first bytes, with the suffix \(none\)", True),
        ("b.jfif", b"\xff\xd8\xff\xe0", "an image by its first bytes", True),
        ("b.avif", b"\0\0\0\x20ftypavif", "an image by its first bytes", True),
        ("b.bin", b"BM\1\0\0\0\0\0\0\0", "an image by its first bytes", True),
        ("more.tar.gz", b"\x1f\x8b", "an archive", True),
        ("more.zip", b"PK", "an archive", True),
    ],
)
def test_files_beside_the_images_are_told_apart_by_suffix_and_first_bytes(
    place, name, content, reason, could_be_an_image
):
    (place / name).write_bytes(content)
    found = read(place.parent)
    assert len(found) == 1
    [(named, (said, image))] = left_aside(found).items()
    assert (named, image) == (f"3/{name}", could_be_an_image)
    assert re.match(reason, said)


def test_a_flat_folder_a_drawn_set_and_one_with_a_rule_name_the_same(place, tmp_path):
    (place / "notes.txt").write_text("words")
    (place / "b.png").write_bytes(PICTURE)
    (tmp_path / "labels.txt").write_text("a.png 3\nb.png 4\n")
    flat = read(place, labels=str(tmp_path / "labels.txt"))
    drawn = layouts.image_set(asked(place.parent, limit=1))
    assert left_aside(flat) == {"notes.txt": ("not an image", False)}
    assert left_aside(drawn) == {"3/notes.txt": ("not an image", False)}


def test_pipes_and_links_to_nothing_are_named_and_never_opened(place):
    os.mkfifo(place / "pipe")
    os.mkfifo(place / "pipe.png")
    (place / "gone").symlink_to("/no/such/file")
    (place / "round.png").symlink_to(place / "round.png")
    found = left_aside(read(place.parent))
    assert {name: image for name, (_, image) in found.items()} == {
        "3/pipe": False,
        "3/pipe.png": True,
        "3/gone": True,
        "3/round.png": True,
    }


def test_a_link_to_an_image_that_is_not_there_is_a_missing_image(place):
    (place / "gone.png").symlink_to("/no/such/file.png")
    found = read(place.parent)
    assert [path.name for path in found.paths] == ["a.png", "gone.png"]
    assert not left_aside(found)
    with pytest.raises(FileNotFoundError):
        found.picture(1)


@pytest.mark.parametrize("image_set", ["folder", "real"])
def test_a_file_that_is_no_archive_is_refused(image_set, tmp_path):
    (tmp_path / "set.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(InputError, match="is neither a folder nor a .parquet or .tar file: unpack"):
        layouts.image_set(asked(tmp_path / "set.tar.gz", image_set=image_set, labels=""))


def test_an_image_that_has_become_a_pipe_costs_its_own_row(place):
    found = read(place.parent)
    (place / "a.png").unlink()
    os.mkfifo(place / "a.png")
    with pytest.raises(OSError, match="not a regular file"):
        found.picture(0)


def test_a_folder_and_a_file_that_cannot_be_read_could_hold_images(place, monkeypatch):
    (place / "locked").mkdir()
    (place / "secret").write_bytes(b"")

    def refusing(function):
        def call(path, *given):
            if Path(path).name in {"locked", "secret"}:
                raise PermissionError(13, "Permission denied")
            return function(path, *given)

        return call

    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    monkeypatch.setattr(os, "open", refusing(os.open))
    found = left_aside(read(place.parent))
    assert found["3/locked"] == ("a folder that cannot be read (Permission denied)", True)
    assert found["3/secret"] == ("cannot be read (Permission denied)", True)


def test_links_to_folders_are_followed_and_a_link_back_is_named(place, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.png").write_bytes(PICTURE)
    (place.parent / "4").symlink_to(tmp_path / "elsewhere")
    (place / "same").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(place.parent)
    found = read(place.parent)
    assert [found.identity(number) for number in range(len(found))] == ["3/a.png", "3/same/b.png", "4/b.png"]
    assert list(found.labels) == [3, 3, 4]
    back = ("a link back to a folder that contains it", False)
    assert left_aside(found) == {"3/same/up": back, "4/up": back}


def test_links_that_multiply_are_refused(place):
    for number in range(9):
        (place.parent / f"{number}").mkdir(exist_ok=True)
        for link in range(9):
            (place.parent / f"{number}" / f"to {link}").symlink_to(place.parent / f"{number + 1}")
    with pytest.raises(InputError, match="more than 16 links to one folder"):
        read(place.parent)


def test_more_folders_than_any_set_has_are_refused(place, monkeypatch):
    monkeypatch.setattr(folders, "MOST_FOLDERS", 3)
    for number in range(3):
        (place.parent / f"1{number}").mkdir()
    with pytest.raises(InputError, match="holds 4 folders"):
        read(place.parent)


def test_images_beside_class_folders_and_empty_classes_are_named(place):
    (place.parent / "lost.png").write_bytes(PICTURE)
    (place.parent / "7").mkdir()
    found = read(place.parent)
    assert left_aside(found) == {
        "lost.png": ("an image beside the class folders", True),
        "7": ("an empty folder", False),
    }
    assert len(found.classes) == 8


def test_members_of_a_tar_file_that_are_not_read_are_named(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add(archive, "a.png", PICTURE)
        add(archive, "a.json", b"{}")
        add(archive, "._a.png", b"of a Mac")
        add(archive, "b.jfif", PICTURE)
        add(archive, "more.zip", b"PK")
        for name, kind in (
            ("hard.png", tarfile.LNKTYPE),
            ("soft.png", tarfile.SYMTYPE),
            ("pipe", tarfile.FIFOTYPE),
            ("folder", tarfile.DIRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a.png"
            archive.addfile(member)
    found = left_aside(read(tmp_path / "x.tar"))
    images = {"b.jfif", "more.zip", "hard.png", "soft.png", "pipe"}
    assert {name for name, (_, image) in found.items() if image} == {f"x.tar/{name}" for name in images}
    assert {name for name, (_, image) in found.items() if not image} == {"x.tar/a.json", "x.tar/._a.png"}


def test_what_lies_beside_archives_is_named(tmp_path):
    for name in ("set-val-0.tar", "set-train-0.tar", "extra.tar"):
        packed(tmp_path / name, [f"{name}.png"])
    (tmp_path / "README.md").write_text("words")
    (tmp_path / "b.png").write_bytes(PICTURE)
    (tmp_path / "c.zip").write_bytes(b"PK")
    found = read(tmp_path)
    images = {name: image for name, (_, image) in left_aside(found).items()}
    assert [path.name for path in found.paths] == ["set-val-0.tar.png"]
    assert images == {"README.md": False, "b.png": True, "c.zip": True, "set-train-0.tar": False, "extra.tar": True}


def test_other_splits_are_named_and_archives_of_no_known_split_could_hold_images(tmp_path):
    cell = {"bytes": PICTURE, "path": "a.png"}
    for name in ("validation-0.parquet", "train-0.parquet", "extra.parquet"):
        write_parquet(tmp_path / name, [cell], [3])
    found = read(tmp_path)
    assert len(found) == 1
    assert {name: image for name, (_, image) in left_aside(found).items()} == {
        "train-0.parquet": False,
        "extra.parquet": True,
    }


@pytest.mark.parametrize("layout", ["folder", "tar", "parquet"])
def test_a_set_of_no_image_is_refused(layout, tmp_path):
    if layout == "tar":
        packed(tmp_path / "x.tar", ["a.txt"])
    elif layout == "parquet":
        write_parquet(tmp_path / "x.parquet", [], [])
    with pytest.raises(InputError, match=r"There are no images in|no class folders with images"):
        read(tmp_path)
