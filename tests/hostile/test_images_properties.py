"""Whatever a label file, an archive or an image holds, it ends in an answer or in an InputError."""

import functools
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivit_helpers.errors import InputError
from ivit_helpers.images.decoding import Decoder
from ivit_helpers.images.label_files import apply_labels, read_labels
from ivit_helpers.images.labelled_images import LabelledImages, named, printable
from ivit_helpers.images.parquet import parquet_shards
from ivit_helpers.images.tar import tar_members, tar_shards
from ivit_helpers.images.transform import ImageTransform
from tests.hostile.image_makers import encoded, packed
from tests.images.test_layouts import write_parquet

BLOCK = 512


def examples(count):
    return settings(max_examples=count, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def changes(length, most=8):
    """Places in a file, each with the byte that is put there."""
    return st.lists(st.tuples(st.integers(0, length - 1), st.integers(0, 255)), min_size=1, max_size=most)


def changed(content, places):
    found = bytearray(content)
    for place, byte in places:
        found[place] = byte
    return bytes(found)


@examples(150)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(str.encode),
        st.from_regex(rb"(\w+ \w+\r?\n){1,4}", fullmatch=True),
    )
)
def test_any_label_file_labels_images_or_is_refused(place, content):
    (place / "labels.txt").write_bytes(content)
    with suppress(InputError):
        written = read_labels(str(place / "labels.txt"))
        images = named("set", [place / f"{Path(name).stem}.png" for name in written], [None] * len(written))
        found = apply_labels(images, written, place)
        assert len(found) >= len(written)
        assert [found.identity(number).encode() for number in range(len(found))]


@examples(100)
@given(text=st.text(st.characters(), max_size=30))
def test_a_printable_name_holds_no_control_characters_and_can_be_encoded(text):
    shown = printable(text)
    assert (shown == "") == (text == "")
    assert shown.encode().decode() == shown
    assert not any(ord(character) < 32 for character in shown)


@functools.cache
def good_tar():
    return packed([("sub/a.json", b"{}"), ("n" * 150 + ".png", encoded())])


MEMBERS = 8


def everything(found):
    return len(found.pictures) + len(found.labels) + len(found.aside)


@examples(300)
@given(places=changes(len(good_tar())))
def test_no_member_of_a_damaged_tar_file_goes_missing_without_a_word(place, places):
    (place / "a.tar").write_bytes(changed(good_tar(), places))
    with suppress(InputError):
        assert everything(tar_members(place / "a.tar")) == MEMBERS


@examples(300)
@given(block=st.sampled_from(range(0, len(good_tar()) - BLOCK, BLOCK)), places=changes(BLOCK))
def test_any_tar_header_with_a_right_checksum_gives_members_or_is_refused(place, block, places):
    content = bytearray(good_tar())
    header = bytearray(changed(content[block : block + BLOCK], places))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[block : block + BLOCK] = header
    (place / "a.tar").write_bytes(content)
    with suppress(InputError):
        found = tar_shards([place / "a.tar"], "set")
        for number in range(len(found)):
            with suppress(OSError, ValueError):
                found.picture(number)


@examples(200)
@given(length=st.integers(0, len(good_tar())), zeros=st.integers(0, 20_000))
def test_a_tar_file_that_is_cut_or_padded_is_refused_or_whole(place, length, zeros):
    (place / "a.tar").write_bytes(good_tar()[:length] + bytes(zeros))
    with suppress(InputError):
        found = tar_members(place / "a.tar")
        hidden = len(good_tar().rstrip(b"\0")) - length  # bytes of members that zeros took the place of
        assert everything(found) == MEMBERS or (zeros < tarfile.RECORDSIZE + 2 * BLOCK and hidden < tarfile.RECORDSIZE)


@functools.cache
def good_parquet():
    with tempfile.TemporaryDirectory() as folder:
        cells = [{"bytes": encoded(colour), "path": f"{colour}.png"} for colour in ("red", "green", "blue")]
        write_parquet(Path(folder) / "a.parquet", cells, [1, 2, 3])
        return (Path(folder) / "a.parquet").read_bytes()


@examples(150)
@given(places=changes(len(good_parquet()), 4))
def test_any_damaged_parquet_file_gives_its_rows_or_is_refused(place, places):
    path = place / f"{abs(hash(tuple(places)))}.parquet"  # the process that parses keeps files open
    path.write_bytes(changed(good_parquet(), places))
    with suppress(InputError):
        found = parquet_shards([path], "set")
        assert len(found) == 3
        decoded = [Decoder(found, ImageTransform(8, 8))(number) for number in range(3)]
        assert {one.fault for one in decoded} <= {"", "missing", "unreadable"}
    path.unlink()


@functools.cache
def good_image(kind):
    return encoded(kind=kind)


@examples(200)
@given(kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]), data=st.data())
def test_any_damaged_image_gives_pixels_or_a_reason(place, kind, data):
    content = changed(good_image(kind), data.draw(changes(len(good_image(kind)))))
    (place / "a.png").write_bytes(
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )
    found = Decoder(LabelledImages("set", [place / "a.png"], [None], []), ImageTransform(8, 8))(0)
    assert (found.crop is None) == bool(found.fault)
    assert (found.fault == "") == (found.reason == "")
