"""How the classes of the images are found among the model's, and what is refused before anything runs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ivit_helpers.accuracy import classes, questions
from ivit_helpers.accuracy.classes import class_indices, model_classes
from ivit_helpers.accuracy.predictions import predict
from ivit_helpers.errors import InputError
from ivit_helpers.images.imagenet import RULES, readable_names, subset, synsets
from ivit_helpers.images.labelled_images import named
from ivit_helpers.images.layouts import image_set
from ivit_helpers.record.parameters import AccuracyParameters
from ivit_helpers.record.run import start
from tests.weights.test_head import official

UNNAMED = tuple(f"class {number}" for number in range(1000))


def images_of(*words):
    return named("mine", [Path(f"{number}.png") for number in range(len(words))], words)


def class_folders(folder, names, images=1):
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(images):
            Image.effect_noise((30, 30), 90).save(folder / name / f"{number}.png")
    return str(folder)


def head_file(path, names, width=192):
    save_file(
        {"weight": torch.zeros(len(names), width), "bias": torch.zeros(len(names))},
        path,
        {"classes": json.dumps(names)},
    )
    return str(path)


def test_classes_are_found_by_their_names_in_whatever_order_the_model_has_them():
    assert class_indices(images_of("bird", "dog"), ("dog", "cat", "bird")) == [2, 0]


def test_a_model_without_class_names_takes_numbers_and_synset_ids():
    found = images_of("0", "7", "999")
    assert [class_indices(found, UNNAMED)[label] for label in found.labels] == [0, 7, 999]
    assert class_indices(images_of(synsets()[5], synsets()[900]), UNNAMED) == [5, 900]


def test_synset_ids_are_found_by_name_in_a_head_that_has_them_in_another_order():
    assert class_indices(images_of(synsets()[0]), synsets()[::-1]) == [999]


@pytest.mark.parametrize(
    ("words", "classes"),
    [
        (("bird", "cat", "dog"), tuple("0123456789")),
        (("bird", "cat", "dog"), UNNAMED),
        (("0", "1", "2"), ("bird", "cat", "dog")),
        (("10",), tuple("0123456789")),
        (("1000",), UNNAMED),
        ((synsets()[0],), UNNAMED[:999]),
        ((synsets()[0],), tuple(f"thing {number}" for number in range(1000))),
    ],
)
def test_classes_that_are_not_the_models_are_refused(words, classes):
    with pytest.raises(
        InputError, match=rf"Not classes of the model: .*{words[-1]}.* class_names=FILE, or classes=by-order"
    ):
        class_indices(images_of(*words), classes)


def test_the_refusal_shows_how_both_lists_begin(tmp_path):
    asked = AccuracyParameters(data=class_folders(tmp_path, ["bird", "cat", "dog"]))
    with pytest.raises(
        InputError, match=r"has 3 classes \(bird, cat, dog\), and the model has 10 classes \(0, 1, 2, 3, 4 and 5 more\)"
    ):
        questions.check_inputs(asked)


def test_the_check_before_a_run_accepts_every_way_to_match_and_reads_no_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("ivit_helpers.weights.head.check_values", None)
    monkeypatch.setattr("ivit_helpers.weights.loading.check_values", None)
    data = class_folders(tmp_path / "set", ["bird", "cat", "dog"])
    (tmp_path / "names.txt").write_text("dog\ncat\nbird\n" + "\n".join(map(str, range(7))))
    for given in (
        {"classes": "by-order"},
        {"class_names": str(tmp_path / "names.txt")},
        {"head": head_file(tmp_path / "head.safetensors", ["dog", "bird", "cow", "cat"])},
        {"head": head_file(tmp_path / "other.safetensors", ["a", "b", "c"]), "classes": "by-order"},
        {"model": "owner/on-a-hub"},
    ):
        questions.check_inputs(AccuracyParameters(data=data, **given))
    for given in ({"head": head_file(tmp_path / "few.safetensors", ["dog", "cat"])}, {"model": "random:tiny-224"}):
        with pytest.raises(InputError, match="Not classes of the model: bird"):
            questions.check_inputs(AccuracyParameters(data=data, **given))
    with pytest.raises(InputError, match="Not classes of the model: bird"):
        questions.check_inputs(
            AccuracyParameters(data=data, model="owner/on-a-hub", head=str(tmp_path / "few.safetensors"))
        )


def test_the_number_of_classes_of_the_official_head_is_read_without_its_weights(tmp_path):
    torch.save({"model": dict(official(8, 1000).state_dict())}, tmp_path / "head.pth")
    data = class_folders(tmp_path / "set", ["0", "999"])
    questions.check_inputs(AccuracyParameters(data=data, head=str(tmp_path / "head.pth")))
    (tmp_path / "set" / "999").rename(tmp_path / "set" / "1000")
    with pytest.raises(InputError, match=r"the model has 1000 classes \(class 0, .*Not classes of the model: 1000\."):
        questions.check_inputs(AccuracyParameters(data=data, head=str(tmp_path / "head.pth")))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a\nb\n", "has 2 names and the model has 10 classes"),
        ("\n".join("abcdefghia"), "has the name 'a' twice"),
        ("a\n\nb", "has an empty line"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_class_names_must_be_one_different_name_for_each_class(tmp_path, text, sentence):
    (tmp_path / "names.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=sentence):
        questions.check_inputs(AccuracyParameters(class_names=str(tmp_path / "names.txt")))


def whole_run(tmp_path, loaded, **given):
    """The verdict, everything the notebook's cells show, and the predictions."""
    asked = AccuracyParameters(out=str(tmp_path / "out"), **given)
    run, images = start(asked), image_set(asked)
    loaded = classes.name_classes(asked, loaded, images)
    shown = [questions.begin(run, loaded, images)]
    predictions = predict(loaded, images, 8, 0)
    row = questions.keep(run, predictions, loaded)
    shown += [
        questions.accounting_table(row),
        questions.overview(predictions, row),
        questions.class_figures(predictions),
    ]
    shown.append(questions.mistakes(predictions, images, loaded))
    return run.record, " ".join(part._repr_html_() for part in shown), predictions


def test_classes_by_order_are_called_as_their_folders_and_the_verdict_says_so(tmp_path, tiny):
    data = class_folders(tmp_path / "set", ["bird", "cat", "dog"], images=4)
    record, page, predictions = whole_run(tmp_path, tiny, data=data, classes="by-order")
    assert predictions.classes[:4] == ("bird", "cat", "dog", "3")
    assert any(f"{name}, answered " in page for name in ("bird", "cat", "dog"))
    assert "The 3 classes of the images were matched with the first of the model's 10 by their order" in record.verdict
    assert "<dt>classes that may be answered</dt><dd>10</dd>" in page


def test_class_names_from_a_file_replace_the_heads_own_and_the_verdict_says_so(tmp_path, tiny):
    (tmp_path / "names.txt").write_text("\n".join(["dog", "cat", "bird", *map(str, range(7))]))
    data = class_folders(tmp_path / "set", ["bird", "cat"])
    record, _, predictions = whole_run(tmp_path, tiny, data=data, class_names=str(tmp_path / "names.txt"))
    assert sorted(predictions.table["label"]) == [1, 2]
    assert "The names of the model's classes come from names.txt, not from its head." in record.verdict


def test_by_order_never_gives_two_classes_one_name():
    found = model_classes(AccuracyParameters(classes="by-order"), ("dog", "cat", "bird"), images_of("bird", "cow"))
    assert found == ("bird", "cow", "bird (output 2)")


def test_the_notebook_refuses_classes_that_are_not_the_models(tmp_path, tiny):
    with pytest.raises(InputError, match="Not classes of the model: bird, cat"):
        whole_run(tmp_path, tiny, data=class_folders(tmp_path / "set", ["bird", "cat"]))


def test_a_published_set_is_answered_among_its_own_classes_only(tmp_path, tiny):
    names = (*synsets()[::-1], "other")
    head = torch.nn.Module()
    head.forward = lambda hidden: torch.arange(1001.0).repeat(
        len(hidden), 1
    )  # the class that is not ImageNet's is always first
    larger = replace(tiny, head=head, classes=names)
    for name in ("imagenet-1k", "a"):
        data = class_folders(tmp_path / name, [synsets()[subset("a")[0]]])
        found = RULES[name].apply(image_set(AccuracyParameters(data=data)))
        [row] = predict(larger, found, 8, 0).table.itertuples()
        assert names[row.class1] == synsets()[subset("a")[0] if name == "a" else 0]
        assert names[row.label] == synsets()[subset("a")[0]]


AWKWARD = [r"$\frac$ 5", "<b>bold & more", "100 %", r"a\b{"]


def test_class_names_with_dollars_or_html_characters_are_shown_as_they_are(tmp_path, tiny):
    data = class_folders(tmp_path / "set", AWKWARD, images=2)
    _, page, predictions = whole_run(tmp_path, tiny, data=data, classes="by-order")
    assert set(AWKWARD) <= set(predictions.classes)
    assert "&lt;b&gt;bold &amp; more" in page
    assert "<b>bold" not in page


def test_synset_folders_are_called_by_their_readable_names(tmp_path, tiny):
    data = class_folders(tmp_path / "set", [synsets()[0]])
    head = torch.nn.Module()
    head.forward = lambda hidden: torch.arange(1000.0).repeat(len(hidden), 1)
    _, page, _ = whole_run(tmp_path, replace(tiny, head=head, classes=UNNAMED), data=data)
    assert f"{readable_names()[0]}, answered {readable_names()[999]}" in page
