import io
import os
import pickle
import sys
import tarfile
from contextlib import closing

import pytest
from PIL import Image

from ivit_helpers.errors import InputError
from ivit_helpers.images import decoding, layouts
from ivit_helpers.images.imagenet import synsets
from ivit_helpers.images.transform import ImageTransform
from ivit_helpers.record.parameters import AccuracyParameters

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
NAMES = [f"ILSVRC2012_val_{number:08d}" for number in (1, 2, 3)]
LABELS = [65, 970, 7]


def encoded(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 16), colour).save(buffer, "PNG")
    return buffer.getvalue()


def asked(data, **others):
    return AccuracyParameters(data=str(data), **{"image_set": "imagenet-1k", **others})


def synset_folders(folder):
    for name, label, colour in zip(NAMES, LABELS, COLOURS, strict=True):
        (folder / synsets()[label]).mkdir()
        (folder / synsets()[label] / f"{name}.png").write_bytes(encoded(colour))
    return {}


def numbered_folders(folder):
    for name, label, colour in zip(NAMES, LABELS, COLOURS, strict=True):
        (folder / str(label)).mkdir()
        (folder / str(label) / f"{name}.png").write_bytes(encoded(colour))
    return {}


def flat(folder, lines):
    for name, colour in zip(NAMES, COLOURS, strict=True):
        (folder / f"{name}.png").write_bytes(encoded(colour))
    (folder.parent / "labels.txt").write_text("\n".join(lines))
    return {"labels": str(folder.parent / "labels.txt")}


def flat_with_indices(folder):
    return flat(folder, [f"{name}.JPEG {label}" for name, label in zip(NAMES, LABELS, strict=True)])


def flat_with_synsets(folder):
    return flat(folder, [f"{name}.JPEG {synsets()[label]}" for name, label in zip(NAMES, LABELS, strict=True)])


def devkit(folder):
    return flat(folder, ["490", "361", "383"])


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def tar_shards(folder):
    for number, (name, label, colour) in enumerate(zip(NAMES, LABELS, COLOURS, strict=True)):
        with tarfile.open(folder / f"set-{number}.tar", "w") as archive:
            add(archive, f"{name}.cls", str(label).encode())
            add(archive, f"{name}.png", encoded(colour))
    return {}


def tar_with_a_text(folder):
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as archive:
        for name, colour in zip(NAMES, COLOURS, strict=True):
            add(archive, f"./{name}.png", encoded(colour))
    (folder / "truth.txt").write_text("490\n361\n383\n")
    return {"labels": str(folder / "truth.txt")}


def write_parquet(path, cells, labels, group=2):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    parquet.write_table(
        pyarrow.table({"image": pyarrow.array(cells, kind), "label": labels}), path, row_group_size=group
    )


def hub_parquet(folder):
    (folder / "data").mkdir()
    cells = [{"bytes": encoded(colour), "path": f"{name}.png"} for name, colour in zip(NAMES, COLOURS, strict=True)]
    write_parquet(folder / "data" / "validation-00000-of-00001.parquet", cells, LABELS)
    write_parquet(folder / "data" / "train-00000-of-00001.parquet", cells[:1], [0])
    return {}


LAYOUTS = [
    synset_folders,
    numbered_folders,
    flat_with_indices,
    flat_with_synsets,
    devkit,
    tar_shards,
    tar_with_a_text,
    hub_parquet,
]


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.__name__)
def found(request, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    return layouts.image_set(asked(folder, **request.param(folder)))


def test_every_layout_gives_the_same_labelled_images(found):
    seen = {
        path.stem: (label, found.picture(number).image.getpixel((3, 3)))
        for number, (path, label) in enumerate(zip(found.paths, found.labels, strict=True))
    }
    assert seen == {name: (label, colour) for name, label, colour in zip(NAMES, LABELS, COLOURS, strict=True)}
    assert found.name == "imagenet-1k"


def test_images_of_every_layout_can_be_drawn_read_backwards_and_sent_to_another_process(found):
    drawn = pickle.loads(pickle.dumps(found.drawn(2, seed=3)))
    assert (len(drawn), drawn.drawn_from) == (2, 3)
    for number in (1, 0):
        label = drawn.labels[number]
        assert drawn.picture(number).image.getpixel((0, 0)) == COLOURS[LABELS.index(label)]


def test_images_of_every_layout_are_decoded_in_worker_processes(found):
    transform = ImageTransform(16, 16)
    with closing(decoding.batches(found, transform, 2, workers=2)) as batches:
        decoded = [one for batch in batches for one in batch.images]
    assert [tuple(one.crop[3, 3]) for one in decoded] == [COLOURS[LABELS.index(label)] for label in found.labels]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_an_image_is_called_the_same_wherever_its_set_lies(layout, tmp_path):
    identities = []
    for place in ("here", "there/deeper"):
        folder = tmp_path / place / "set"
        folder.mkdir(parents=True)
        found = layouts.image_set(asked(folder, **layout(folder))).drawn(2, seed=1)
        identities.append([found.identity(number) for number in range(2)])
    assert identities[0] == identities[1]
    assert all("/here" not in name and name.endswith(".png") for name in identities[0])


def test_rows_of_one_name_and_names_from_the_root_have_an_identity_of_their_own(tmp_path):
    write_parquet(
        tmp_path / "x.parquet",
        [{"bytes": b"", "path": path} for path in ("a.png", "/b.png", "a.png", None)],
        [1, 2, 3, 4],
    )
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add(archive, "/c.png", b"")
    parquet, tar = (layouts.read_layout(str(tmp_path / name)) for name in ("x.parquet", "x.tar"))
    names = [parquet.identity(number) for number in range(4)]
    assert names == ["x.parquet/row 0/a.png", "x.parquet/b.png", "x.parquet/row 2/a.png", "x.parquet/row 3"]
    assert tar.identity(0) == "x.tar/c.png"


def real_json(tmp_path):
    path = tmp_path / "real.json"
    path.write_text("[[], [970, 795], [8]" + ", [1]" * 49_997 + "]")
    return str(path)


@pytest.mark.parametrize("layout", [synset_folders, flat_with_indices, tar_shards, hub_parquet])
def test_real_takes_the_images_from_any_layout_and_the_labels_by_their_names(layout, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    layout(folder)
    found = layouts.image_set(asked(folder, image_set="real", labels=real_json(tmp_path)))
    assert {path.stem: label for path, label in zip(found.paths, found.labels, strict=True)} == dict(
        zip(NAMES, [None, (970, 795), (8,)], strict=True)
    )


def test_a_label_without_its_image_is_missing_and_an_image_without_label_is_unlabelled(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add(archive, "a.cls", b"3")
        add(archive, "b.png", encoded(COLOURS[0]))
    found = layouts.image_set(asked(tmp_path / "x.tar"))
    assert {path.stem: label for path, label in zip(found.paths, found.labels, strict=True)} == {"a": 3, "b": None}
    with pytest.raises(FileNotFoundError):
        found.picture([path.stem for path in found.paths].index("a"))


def test_parquet_rows_without_label_or_bytes_are_told_apart(tmp_path):
    write_parquet(
        tmp_path / "x.parquet",
        [
            {"bytes": encoded(COLOURS[0]), "path": None},
            {"bytes": None, "path": "b.png"},
            {"bytes": b"no image", "path": "c.png"},
        ],
        [-1, 5, None],
    )
    found = layouts.image_set(asked(tmp_path / "x.parquet"))
    assert list(found.labels) == [None, 5, None]
    assert found.picture(0).image.size == (20, 16)
    with pytest.raises(FileNotFoundError):
        found.picture(1)
    with pytest.raises(OSError, match="cannot identify"):
        found.picture(2)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.99])
def test_a_tar_file_that_ends_too_early_is_reported(tmp_path, kept):
    tar_shards(tmp_path)
    path = tmp_path / "set-0.tar"
    with tarfile.open(path) as archive:
        length = max(member.offset_data + member.size for member in archive)
    path.write_bytes(path.read_bytes()[: int(kept * length)])
    with pytest.raises(InputError, match=r"set-0\.tar cannot be read as a tar file to its end"):
        layouts.image_set(asked(tmp_path))


def test_a_tar_file_cut_between_two_members_is_reported(tmp_path):
    tar_shards(tmp_path)
    path = tmp_path / "set-0.tar"
    with tarfile.open(path) as archive:
        second = archive.getmembers()[1].offset
    path.write_bytes(path.read_bytes()[:second])
    with pytest.raises(InputError, match="to its end"):
        layouts.image_set(asked(tmp_path))


@pytest.mark.parametrize(
    ("zeros", "whole"),
    [
        (512, True),
        (1024, True),
        (1536, False),
        (6 * 512, True),
        (9 * 512, False),
        (18 * 512, True),
        (10240, False),
        (50_000, False),
    ],
)
def test_zeros_that_no_program_writes_at_the_end_of_a_tar_file_are_reported(zeros, whole, tmp_path):
    member = tarfile.TarInfo("a.png")
    member.size = len(encoded(COLOURS[0]))
    content = member.tobuf() + encoded(COLOURS[0]).ljust(512, b"\0")  # two blocks
    (tmp_path / "x.tar").write_bytes(content + bytes(zeros))
    if whole:
        assert len(layouts.read_layout(str(tmp_path / "x.tar"))) == 1
        return
    with pytest.raises(InputError, match="the rest of it did not arrive"):
        layouts.read_layout(str(tmp_path / "x.tar"))


@pytest.mark.parametrize("at", [0, 1])
def test_zeros_or_noise_in_place_of_a_header_never_hide_the_members_after_it(at, tmp_path):
    tar_shards(tmp_path)
    path = tmp_path / "set-0.tar"
    with tarfile.open(path) as archive:
        begins = archive.getmembers()[at].offset
    for noise in (bytes(512), b"x" * 512):
        path.write_bytes(path.read_bytes()[:begins] + noise + path.read_bytes()[begins + len(noise) :])
        with pytest.raises(InputError, match="to its end"):
            layouts.image_set(asked(tmp_path))


def test_links_in_a_tar_file_lead_nowhere(tmp_path):
    (tmp_path / "secret.png").write_bytes(encoded(COLOURS[0]))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret.png")
        archive.addfile(link)
        add(archive, "../../outside.png", encoded(COLOURS[1]))
    found = layouts.read_layout(str(tmp_path / "x.tar"))
    assert [path.name for path in found.paths] == ["outside.png"]
    assert found.picture(0).image.getpixel((0, 0)) == COLOURS[1]
    assert {path.name for path in tmp_path.iterdir()} == {"secret.png", "x.tar"}


def test_a_compressed_tar_file_is_reported(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w:gz") as archive:
        add(archive, "a.png", encoded(COLOURS[0]))
    with pytest.raises(InputError, match="damaged, incomplete or compressed"):
        layouts.image_set(asked(tmp_path / "x.tar"))


def test_two_images_of_one_name_in_a_tar_file_are_reported(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add(archive, "a.png", encoded(COLOURS[0]))
        add(archive, "a.png", encoded(COLOURS[1]))
    with pytest.raises(InputError, match="holds two images called a"):
        layouts.image_set(asked(tmp_path / "x.tar"))


def test_a_broken_parquet_file_and_one_of_other_columns_are_reported(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "x.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InputError, match=r"x\.parquet cannot be read as parquet"):
        layouts.image_set(asked(tmp_path / "x.parquet"))
    parquet.write_table(pyarrow.table({"pixels": [1], "label": [2]}), tmp_path / "y.parquet")
    with pytest.raises(InputError, match=r"has the columns pixels, label: expected an image column"):
        layouts.image_set(asked(tmp_path / "y.parquet"))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'ivit-helpers\[imagenet\]'"):
        layouts.image_set(asked(tmp_path / "x.parquet"))


@pytest.mark.parametrize(
    ("data", "others", "sentence"),
    [
        ("/no/such", {}, "There is no folder /no/such"),
        ("/no/such", {"image_set": "real"}, "There are no images in /no/such"),
        ("/no/such", {"labels": "/no/such.txt"}, "There is no folder /no/such"),
        ("/no/such.tar", {}, r"There is no file /no/such\.tar"),
        ("digits", {}, "has labels of its own"),
        ("digits", {"image_set": "folder", "labels": "x"}, "has labels of its own"),
    ],
)
def test_what_is_not_there_is_reported(data, others, sentence):
    with pytest.raises(InputError, match=sentence):
        layouts.image_set(asked(data, **others))


def test_a_set_of_the_models_own_classes_keeps_what_the_layout_says(tmp_path):
    tar_shards(tmp_path)
    found = layouts.image_set(asked(tmp_path, image_set="folder"))
    assert [found.classes[label] for label in found.labels] == ["65", "970", "7"]
    assert layouts.image_set(AccuracyParameters(limit=5)).name == "digits"


def packed(path, names):
    with tarfile.open(path, "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(encoded(COLOURS[0]))
            archive.addfile(member, io.BytesIO(encoded(COLOURS[0])))


def test_class_folders_packed_in_a_tar_file_are_classes(tmp_path):
    labels = [synsets()[label] for label in (6, 11, 6)]
    packed(tmp_path / "imagenet-a.tar", [f"imagenet-a/{label}/{number}.png" for number, label in enumerate(labels)])
    assert list(layouts.image_set(asked(tmp_path / "imagenet-a.tar", image_set="a")).labels) == [6, 11, 6]


def test_images_of_a_set_that_all_lack_a_label_are_refused(tmp_path):
    packed(tmp_path / "one.tar", ["1.png", "2.png"])
    packed(tmp_path / "two.tar", ["3.png"])
    with pytest.raises(InputError, match="None of the 3 images of data=.* has a label: give labels=FILE"):
        layouts.image_set(asked(tmp_path))


def test_a_folder_that_is_called_like_a_set_is_not_taken_for_it(tmp_path):
    for name in ("a", "digits", "mine"):
        (tmp_path / name).mkdir()
        numbered_folders(tmp_path / name)
    names = [layouts.image_set(asked(tmp_path / name, image_set="folder")).name for name in ("a", "digits", "mine")]
    assert names == ["folder a", "folder digits", "mine"]


@pytest.mark.parametrize(
    ("name", "applied"),
    [
        ("imagenet-1k", True),
        ("real", True),
        ("v2", False),
        ("sketch", False),
        ("a", False),
        ("r", False),
        ("folder", False),
    ],
)
def test_an_orientation_is_applied_to_the_sets_that_the_authors_read_so_and_to_no_other(name, applied, tmp_path):
    (tmp_path / "0").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (20, 16)).save(tmp_path / "0" / f"{NAMES[1]}.jpg", exif=exif)
    labels = real_json(tmp_path) if name == "real" else ""
    found = layouts.image_set(asked(tmp_path, image_set=name, labels=labels))
    for these in (found, pickle.loads(pickle.dumps(found))):
        assert these.picture(0).image.size == ((16, 20) if applied else (20, 16))


def test_a_parquet_label_column_with_gaps_costs_the_rows_without_label_only(tmp_path):
    cells = [{"bytes": encoded(COLOURS[0]), "path": f"{number}.png"} for number in range(4)]
    write_parquet(tmp_path / "x.parquet", cells, [65.0, None, float("nan"), 7.0])
    assert list(layouts.image_set(asked(tmp_path / "x.parquet")).labels) == [65, None, None, 7]


def test_a_parquet_row_without_an_image_is_a_missing_image(tmp_path):
    write_parquet(tmp_path / "x.parquet", [None, {"bytes": encoded(COLOURS[0]), "path": "b.png"}], [1, 2])
    found = layouts.image_set(asked(tmp_path / "x.parquet"))
    with closing(decoding.batches(found, ImageTransform(16, 16), 2, workers=0)) as batches:
        assert [one.fault for batch in batches for one in batch.images] == ["missing", ""]


def test_names_that_are_not_utf8_can_be_written_and_the_images_are_read(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / os.fsdecode(b"\xff.png")).write_bytes(encoded(COLOURS[0]))
    found = layouts.image_set(asked(tmp_path, image_set="folder"))
    assert (found.classes, found.identity(0)) == ([r"caf\xe9"], r"caf\xe9/\xff.png")
    assert found.picture(0).image.getpixel((0, 0)) == COLOURS[0]


def test_class_names_in_a_tar_file_may_be_in_any_language(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add(archive, "a.cls", "Bär".encode())
        add(archive, "a.png", encoded(COLOURS[0]))
    assert layouts.image_set(asked(tmp_path / "x.tar", image_set="folder")).classes == ["Bär"]
