import copy
import dataclasses
import math
import os

import pytest
import torch
from PIL import Image

from ivit_helpers.accuracy import questions, statistics
from ivit_helpers.accuracy.predictions import predict
from ivit_helpers.errors import InputError
from ivit_helpers.images import folders, labelled_images, transform
from ivit_helpers.record.parameters import AccuracyParameters
from ivit_helpers.record.rows import OUTCOMES
from ivit_helpers.record.run import start
from ivit_helpers.weights import loading, sources
from ivit_helpers.weights.loading import Loaded

LEAST = 0.97
"""Top-1 of the embedded miniature on its held-out digits, at least"""


def top1(loaded, count=360):
    """Top-1 over so many of the embedded digits, decoded in this process."""
    digits = folders.digits().drawn(count, 0)
    return statistics.score(predict(loaded, digits, 40, workers=0)).top1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_miniature_reads_its_held_out_digits(cpu, dtype):
    assert top1(loading.load(sources.find("tiny"), cpu, dtype)) >= LEAST


class ShiftedTransform(transform.ImageTransform):
    def crop(self, image):
        whole = super().crop(image)
        return whole.transform(whole.size, Image.Transform.AFFINE, (1, 0, 56, 0, 1, 0))


def shifted_crop(loaded: Loaded) -> Loaded:
    return dataclasses.replace(loaded, checkpoint=dataclasses.replace(loaded.checkpoint, transform=ShiftedTransform()))


def swapped_labels(loaded: Loaded) -> Loaded:
    names = list(loaded.classes)
    names[3], names[4] = names[4], names[3]
    return dataclasses.replace(loaded, classes=tuple(names))


def without_query_norm(loaded: Loaded) -> Loaded:
    for layer in loaded.network.encoder.layers:
        layer.attn.q_norm = torch.nn.Identity()
        layer.norm1 = torch.nn.Identity()
    return loaded


@pytest.mark.parametrize("fault", [shifted_crop, swapped_labels, without_query_norm])
def test_a_fault_makes_the_accuracy_fall(cpu, fault):
    sound = loading.load(sources.find("tiny"), cpu, torch.float32)
    assert top1(fault(sound), 120) < LEAST - 0.03


class AlwaysNine(torch.nn.Module):
    """A head that answers 9, with a score of 20 %."""

    def forward(self, hidden):
        return torch.tensor([0.0] * 9 + [math.log(9 / 4)]).repeat(len(hidden), 1)


@pytest.fixture
def folder(tmp_path):
    """Two classes of three images, of which one is truncated and one is a text file."""
    for label in ("0", "1"):
        (tmp_path / label).mkdir()
        for number in range(3):
            Image.effect_noise((40, 40), 80).save(tmp_path / label / f"{number}.jpg")
    path = tmp_path / "0" / "1.jpg"
    path.write_bytes(path.read_bytes()[:200])
    (tmp_path / "1" / "2.jpg").write_text("not an image")
    return tmp_path


def test_a_truncated_jpeg_is_listed_and_never_replaced(folder, tiny):
    found = predict(tiny, folders.class_folders(folder), 2)
    row = statistics.score(found)
    assert (row.images, row.scored, row.unreadable) == (6, 4, 2)
    listed = statistics.not_scored(found)
    assert [path[-7:] for path in listed["path"]] == ["0/1.jpg", "1/2.jpg"]
    assert listed["reason"].str.len().min() > 5


def test_a_file_that_vanished_is_missing(folder, tiny):
    found = folders.class_folders(folder)
    (folder / "1" / "0.jpg").unlink()
    assert statistics.score(predict(tiny, found, 4)).missing == 1


def test_an_image_that_disappears_after_the_predictions_costs_its_picture_only(folder, tiny):
    found = folders.class_folders(folder)
    predictions = predict(dataclasses.replace(tiny, head=AlwaysNine()), found, 4)
    (folder / "0" / "0.jpg").unlink()
    (folder / "1" / "0.jpg").write_text("no image")
    captions = questions.mistakes(predictions, found, tiny).captions
    assert len(captions) == 4
    assert captions.count("0, answered 9 (20%) (now missing: no such file)") == 1
    assert sum(caption.startswith("1, answered 9 (20%) (now unreadable: ") for caption in captions) == 1
    assert questions.mistakes(predictions, found, tiny)._repr_html_().count("<img") == 4


def test_names_that_are_not_utf8_cost_nothing(folder, tiny, tmp_path_factory):
    for name, other in (("0.jpg", b"\xe9.jpg"), ("2.jpg", b"\xff.jpg")):
        (folder / "1" / name).rename(folder / "1" / os.fsdecode(other))
    run = start(AccuracyParameters(out=str(tmp_path_factory.mktemp("out"))))
    found = folders.class_folders(folder)
    predictions = predict(tiny, found, 4)
    questions.keep(run, predictions, tiny, bad_limit=2)
    assert r"1/\xff.jpg" in questions.left_out(run, predictions)._repr_html_().replace("<wbr>", "")
    assert r"1/\xe9.jpg" in (run.folder / "accuracy_predictions.csv").read_text()
    assert run.finish("h").record.rows[0].scored == 4


def test_images_that_readers_treat_differently_are_counted_in_the_record_and_under_the_table(folder, tiny):
    exif = Image.Exif()
    exif[0x0112] = 3
    for number in range(2):
        Image.new("RGB", (40, 40)).save(folder / "0" / f"turned{number}.jpg", exif=exif)
    Image.new("CMYK", (40, 40)).save(folder / "1" / "print.jpg")
    row = statistics.score(predict(tiny, folders.class_folders(folder), 4))
    assert (row.with_orientation, row.cmyk, row.images) == (2, 1, 9)
    differ = "Image readers differ on 2 with an EXIF orientation ({} to this set) and 1 in CMYK"
    assert differ.format("not applied") in questions.accounting_table(row).caption
    as_authors = row.model_copy(update={"set": "imagenet-1k"})
    assert differ.format("applied") in questions.accounting_table(as_authors).caption
    plain = row.model_copy(update={"with_orientation": 0, "cmyk": 0})
    assert questions.accounting_table(plain).caption == "Every image has exactly one outcome"


def test_every_outcome_adds_up(folder, tiny):
    row = statistics.score(predict(tiny, folders.class_folders(folder), 4))
    assert sum(getattr(row, name) for name in OUTCOMES) == row.images


def test_a_non_finite_logit_is_no_prediction(folder, tiny):
    head = copy.deepcopy(tiny.head)
    head.head.bias.data[7] = float("nan")
    row = statistics.score(predict(dataclasses.replace(tiny, head=head), folders.class_folders(folder), 4))
    assert (row.scored, row.nonfinite, row.top1) == (0, 4, None)


def test_synthetic_images_are_unlabelled_and_claim_nothing(tiny):
    found = predict(tiny, labelled_images.synthetic_images(5, 0), 2)
    row = statistics.score(found)
    assert (row.images, row.unlabelled, row.scored) == (5, 5, 0)
    assert not questions.claims_accuracy(row, tiny)
    assert [int(n) for n in found.batches["images"]] == [2, 2, 1]


def test_predictions_do_not_depend_on_the_batch_size(tiny):
    some = folders.digits().drawn(12, 0)
    one, many = (predict(tiny, some, size).table["class1"].tolist() for size in (1, 12))
    assert one == many


def test_wilson_intervals_are_the_known_ones():
    # Newcombe 1998, table I: 81 of 263
    assert statistics.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert statistics.wilson(10, 10)[1] == pytest.approx(1.0)


def test_a_set_of_more_classes_than_the_model_has_is_refused(tiny, tmp_path):
    for number in range(11):
        (tmp_path / f"class{number}").mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / f"class{number}" / "x.png")
    with pytest.raises(InputError, match=r"has 11 classes \(class0, .*, and the model has 10 classes \(0, "):
        predict(tiny, folders.class_folders(tmp_path), 4)
