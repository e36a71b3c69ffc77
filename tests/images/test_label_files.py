from pathlib import Path

import numpy as np
import pytest
import scipy.io

from ivit_helpers.errors import InputError
from ivit_helpers.images import imagenet, label_files
from ivit_helpers.images.labelled_images import named

KEPT = ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"]


def written(tmp_path, text):
    (tmp_path / "labels.txt").write_text(text)
    return label_files.read_labels(str(tmp_path / "labels.txt"))


def test_names_stand_beside_indices_or_synsets(tmp_path):
    assert written(tmp_path, "a.jpg 65\nb.jpg  n01751748\n\n") == {"a.jpg": "65", "b.jpg": "n01751748"}


def test_devkit_numbers_become_synsets_in_the_order_of_the_validation_images(tmp_path):
    assert written(tmp_path, "490\n361\n") == dict(zip(KEPT, ["n01751748", "n09193705"], strict=True))


def test_one_synset_a_line_is_in_the_order_of_the_validation_images(tmp_path):
    assert written(tmp_path, "n01751748\nn09193705\n") == dict(zip(KEPT, ["n01751748", "n09193705"], strict=True))


def test_the_devkits_own_meta_file_is_believed_before_the_known_order(tmp_path):
    order = imagenet.synsets()[::-1]
    rows = np.array(
        [(number, synset, "words") for number, synset in enumerate([*order, "n00001740"], 1)],
        dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("words", object)],
    )
    scipy.io.savemat(tmp_path / "meta.mat", {"synsets": rows})
    assert written(tmp_path, "1\n1000\n") == dict(zip(KEPT, [order[0], order[-1]], strict=True))


def test_a_broken_meta_file_is_reported(tmp_path):
    (tmp_path / "meta.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(InputError, match=r"meta\.mat cannot be read as the devkit's"):
        written(tmp_path, "1\n2\n")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0\n1\n", "numbers outside 1 to 1000"),
        ("1001\n", "numbers outside 1 to 1000"),
        ("a.jpg 1\na.jpg 2\n", "names a.jpg 2 times"),
        ("a.jpg 1\nb.jpg\n", r"lines of \[1, 2\] words"),
        ("", r"lines of \[\] words"),
    ],
)
def test_a_text_that_labels_nothing_is_reported(tmp_path, text, sentence):
    with pytest.raises(InputError, match=sentence):
        written(tmp_path, text)


def test_a_text_that_is_not_there_is_reported(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        label_files.read_labels(str(tmp_path / "absent.txt"))


def test_images_without_a_line_are_unlabelled_and_lines_without_an_image_are_missing():
    images = named("set", [Path("f/a.png"), Path("f/sub/b.png")], [None, None])
    found = label_files.apply_labels(images, {"a.JPEG": "3", "../../c.JPEG": "4"}, Path("f"))
    assert [str(path) for path in found.paths] == ["f/a.png", "f/sub/b.png", "f/c.JPEG"]
    assert found.labels == [3, None, 4]
    with pytest.raises(FileNotFoundError):
        found.picture(2)


def test_labels_of_other_images_are_reported():
    with pytest.raises(InputError, match="None of the 1 images that the labels name"):
        label_files.apply_labels(named("set", [Path("a.png")], [None]), {"b.png": "1"}, Path("f"))


def test_two_images_of_one_name_cannot_be_told_apart():
    images = named("set", [Path("x/a.png"), Path("y/a.png")], [None, None])
    with pytest.raises(InputError, match="2 images of f are called a"):
        label_files.apply_labels(images, {"a.png": "1"}, Path("f"))
    with pytest.raises(InputError, match="2 images of f are called a"):
        label_files.apply_labels(named("set", [Path("a.png")], [None]), {"x/a.png": "1", "y/a.png": "2"}, Path("f"))


def test_a_byte_order_mark_and_the_line_ends_of_windows_change_nothing(tmp_path):
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbfa.jpg 65\r\nb.jpg 7\r\n")
    assert label_files.read_labels(str(tmp_path / "labels.txt")) == {"a.jpg": "65", "b.jpg": "7"}


def test_digits_of_other_scripts_are_names_of_classes_and_not_numbers():
    found = named("set", [Path("a"), Path("b")], ["\u0663", "10"])
    assert (found.classes, found.labels) == (["10", "\u0663"], [1, 0])


@pytest.mark.parametrize(
    ("word", "sentence"), [("1000000000", "has the label 1000000000"), ("w" * 2000, "has a label of 2,000 characters")]
)
def test_a_label_that_would_fill_the_memory_is_refused(word, sentence):
    with pytest.raises(InputError, match=sentence):
        named("set", [Path("a")], [word])


def test_control_characters_in_a_label_are_written_as_escapes(tmp_path):
    assert written(tmp_path, "a.jpg c\x1bd\nb.jpg x\n") == {"a.jpg": r"c\x1bd", "b.jpg": "x"}
