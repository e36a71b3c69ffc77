import json
import sys
from pathlib import Path

import pytest

from ivit_helpers.errors import InputError
from ivit_helpers.images import imagenet
from ivit_helpers.images.imagenet import RULES, subset, synsets
from ivit_helpers.images.labelled_images import named


@pytest.fixture
def without_timm(monkeypatch):
    monkeypatch.setattr(imagenet, "in_timm", lambda name: None)


@pytest.fixture
def with_timm(tmp_path, monkeypatch):
    """A package folder with the files of timm's wheel, in their format, whose code must not run."""
    info = tmp_path / "timm" / "data" / "_info"
    info.mkdir(parents=True)
    (tmp_path / "timm" / "__init__.py").write_text("raise RuntimeError('timm was imported')")
    (info / "imagenet_real_labels.json").write_text(json.dumps([[], [970, 795], [230]] + [[1]] * 49_997))
    (info / "imagenet_synset_to_lemma.txt").write_text(
        "n01440764\ttench, Tinca tinca\nn01443537\tgoldfish, Carassius auratus\n"
    )
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "timm")
    monkeypatch.syspath_prepend(str(tmp_path))
    imagenet.readable_names.cache_clear()
    yield info
    imagenet.readable_names.cache_clear()


def images_named(names, labels=None):
    return named("set", [Path(name) for name in names], labels or [None] * len(names))


def test_the_class_lists_are_what_they_claim():
    assert len(synsets()) == 1000
    assert list(synsets()) == sorted(set(synsets()))
    assert set(imagenet.devkit_order()) == set(synsets())
    for name in ("a", "r"):
        assert len(set(subset(name))) == 200
        assert list(subset(name)) == sorted(subset(name))
    # The first validation images: ILSVRC2012_ID as in the devkit's ground truth, class index as in Caffe's val.txt.
    known = {490: 65, 361: 970, 171: 230, 822: 809, 297: 516, 482: 57, 13: 334, 704: 415}
    assert {number: synsets().index(imagenet.devkit_order()[number - 1]) for number in known} == known


def test_synset_ids_and_numbers_mean_the_same_class():
    by_id = RULES["imagenet-1k"].apply(images_named("ab", ["n01443537", "n15075141"]))
    by_number = RULES["v2"].apply(images_named("ab", ["1", "999"]))
    assert by_id.labels == by_number.labels == [1, 999]
    assert by_id.classes == synsets()
    assert by_id.answers is None


def test_numbered_labels_are_numbers_and_not_their_place_in_a_sorted_list():
    assert RULES["v2"].apply(images_named("abc", ["10", "2", "100"])).labels == [10, 2, 100]


@pytest.mark.parametrize("name", ["a", "r"])
def test_a_and_r_answer_with_their_own_classes_and_understand_three_kinds_of_labels(name):
    rule, chosen = RULES[name], [0, 7, 199]
    expected = [subset(name)[place] for place in chosen]
    by_id = rule.apply(images_named("abc", [synsets()[index] for index in expected]))
    by_place = rule.apply(images_named("abc", [str(place) for place in chosen]))
    by_index = rule.apply(images_named("abc", [str(index) for index in expected]))
    assert by_id.labels == by_place.labels == by_index.labels == expected
    assert by_id.answers == subset(name)


@pytest.mark.parametrize(
    ("name", "word"), [("imagenet-1k", "tench"), ("v2", "1000"), ("a", "n01440764"), ("sketch", "n00000000")]
)
def test_a_label_that_is_no_class_of_the_set_is_reported(name, word):
    with pytest.raises(InputError, match=f"'{word}', which is not a class of ImageNet-"):
        RULES[name].apply(images_named("a", [word]))


def test_real_labels_are_found_by_the_number_in_the_file_name(with_timm):
    names = ["x/ILSVRC2012_val_00000002.JPEG", "ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000003_n02105855.JPEG"]
    found = RULES["real"].apply(images_named(names))
    assert found.labels == [(970, 795), None, (230,)]


def test_timms_files_are_read_without_importing_it(with_timm):
    assert imagenet.readable_names()[:3] == ("n01440764 tench", "n01443537 goldfish", "n01484850")
    assert "timm" not in sys.modules


def test_real_without_labels_says_what_to_install(without_timm):
    with pytest.raises(InputError, match=r"pip install 'ivit-helpers\[imagenet\]'"):
        RULES["real"].apply(images_named(["ILSVRC2012_val_00000001.JPEG"]))


@pytest.mark.parametrize(
    "content", ["{}", "[[1], [2]]", "no json", json.dumps([[1000]] * 50_000), json.dumps([["1"]] * 50_000)]
)
def test_a_file_that_is_no_real_json_is_reported(tmp_path, content):
    (tmp_path / "real.json").write_text(content)
    with pytest.raises(InputError, match=r"real\.json"):
        imagenet.real_labels(str(tmp_path / "real.json"))


@pytest.mark.parametrize("name", ["0001.jpg", "ILSVRC2012_val_00000000.JPEG", "ILSVRC2012_val_00050001.JPEG"])
def test_real_needs_the_validation_images_own_names(with_timm, name):
    with pytest.raises(InputError, match="is not the name of a validation image"):
        RULES["real"].apply(images_named([name]))
