"""The six label rules, end to end on random weights, against plain loops over transformers' network; the checks and their words."""

import dataclasses
import functools
import json
import re
import time

import numpy as np
import pandas as pd
import pytest
import torch

from ivit_helpers.accuracy import flips, other_run, predictions, questions, reference, statistics
from ivit_helpers.accuracy.predictions import predict
from ivit_helpers.errors import InputError
from ivit_helpers.images import folders, layouts, transform
from ivit_helpers.images.imagenet import RULES, subset, synsets
from ivit_helpers.measure.peer import Peer
from ivit_helpers.model import published
from ivit_helpers.model.network import SHAPES, ClassificationHead
from ivit_helpers.record.parameters import AccuracyParameters
from ivit_helpers.record.rows import OUTCOMES, AccuracyRow
from ivit_helpers.record.run import start
from ivit_helpers.weights.head import random_head
from tests.builders import SMALL, randomised
from tests.images.make_goldens import picture

COUNT = 42
SIZES = [(60 + 7 * n % 41, 56 + 11 * n % 37) for n in range(COUNT)]


@pytest.fixture(scope="session")
def random_classifier(tiny):
    """A small random network with a random head of 1000 classes, whose BatchNorm has statistics worth folding."""
    torch.manual_seed(3)
    head = ClassificationHead(SMALL.hidden_size, 1000).eval().requires_grad_(False)
    head.norm.running_mean.normal_(0, 0.3)
    head.norm.running_var.uniform_(0.5, 2)
    head.norm.weight.normal_(1, 0.2)
    head.norm.bias.normal_(0, 0.2)
    checkpoint = dataclasses.replace(
        tiny.checkpoint, name="random", config=SMALL, transform=transform.ImageTransform(56, 56)
    )
    names = tuple(f"class {number}" for number in range(1000))
    return dataclasses.replace(tiny, checkpoint=checkpoint, network=randomised(SMALL), head=head, classes=names)


@functools.cache
def independent_logits(network, head):
    """(COUNT, 1000): transformers' network, BatchNorm written out, one image at a time."""
    peer, rows = Peer(network), []
    for size in SIZES:
        pixels = transform.ImageTransform(56, 56)(picture(*size))[None]
        hidden = peer(pixels)[0]
        feature = torch.cat([hidden[0], hidden[1:].mean(dim=0)])
        norm = (feature - head.norm.running_mean) / torch.sqrt(
            head.norm.running_var + head.norm.eps
        ) * head.norm.weight + head.norm.bias
        rows.append(head.head.weight @ norm + head.head.bias)
    return torch.stack(rows)


@pytest.fixture(scope="session")
def logits(random_classifier):
    return independent_logits(random_classifier.network, random_classifier.head)


def ranked(row, allowed):
    """The allowed classes, best first."""
    return sorted(allowed, key=lambda index: -float(row[index]))


RANKS = [0, 1, 4, 5, 2, 0, 60]
"""Where the right class stands in the answers to one image after another: so top-1 is 2 of 7, and top-5 is 5 of 7"""


def labels_for(name, logits):
    """One right class (for ReaL, up to three, or none) of each image, and how many are right by the rule."""
    allowed = subset(name) if name in ("a", "r") else range(1000)
    labels, top1, top5, counted = [], 0, 0, 0
    for number, row in enumerate(logits):
        best = ranked(row, allowed)
        right = [best[RANKS[number % 7]]]
        if name == "real":
            right = [best[90], *right, best[70]][: number % 3 + 1] if number % 8 else []
        labels.append(right)
        counted += bool(right)
        top1 += any(index == best[0] for index in right)
        top5 += any(index in best[:5] for index in right)
    return labels, top1, top5, counted


def write(name, labels, folder):
    """The set in the layout in which it is published."""
    for number, (size, right) in enumerate(zip(SIZES, labels, strict=True), 1):
        under = {"v2": lambda right: str(right[0]), "real": lambda _: "flat"}.get(
            name, lambda right: synsets()[right[0]]
        )(right)
        (folder / under).mkdir(parents=True, exist_ok=True)
        picture(*size).save(folder / under / f"ILSVRC2012_val_{number:08d}.png")
    if name != "real":
        return ""
    (folder / "real.json").write_text(json.dumps([*labels, *[[0]] * (50_000 - COUNT)]))
    return str(folder / "real.json")


@pytest.fixture
def run(tmp_path):
    return start(AccuracyParameters(out=str(tmp_path / "out")))


def checks(run):
    return {check.name: check for check in run.record.checks}


@pytest.mark.parametrize("name", RULES)
def test_each_rule_gives_exactly_what_plain_loops_give(name, random_classifier, logits, run, tmp_path):
    labels, top1, top5, counted = labels_for(name, logits)
    assert 0 < top1 < top5 < counted
    text = write(name, labels, tmp_path / "set")
    found = layouts.image_set(AccuracyParameters(data=str(tmp_path / "set"), image_set=name, labels=text))
    questions.begin(run, random_classifier, found)
    predictions = predict(random_classifier, found, 8)
    row = questions.keep(run, predictions, random_classifier)
    assert (row.top1_hits, row.top5_hits) == (top1, top5)
    assert (row.images, row.scored, row.unlabelled) == (COUNT, counted, COUNT - counted)
    assert (row.top1, row.top5) == (top1 / counted, top5 / counted)
    assert {check.status for check in run.record.checks} <= {"passed", "skipped"}
    kept = pd.read_csv(run.folder / "accuracy_predictions.csv", dtype={"also": str})
    again = statistics.hits(kept[kept["outcome"] == "scored"].reset_index(), 5)
    assert again.sum() == top5
    run.finish("the key figure")
    twin = start(AccuracyParameters(out=str(tmp_path / "twin")))
    questions.keep(twin, predictions, random_classifier)
    other_run.against(twin, predictions, found, random_classifier, str(run.folder))
    assert {check.status for check in twin.record.checks} <= {"passed", "skipped"}
    assert checks(twin)["flips both ways alike"].detail.startswith(
        "0 right there and wrong here, 0 wrong there and right here"
    )


def test_a_reference_that_was_labelled_or_scored_by_another_rule_is_refused(random_classifier, logits, tmp_path):
    labels, *_ = labels_for("a", logits)
    write("a", labels, tmp_path / "set")

    def run_of(name, other=""):
        run = start(AccuracyParameters(out=str(tmp_path / name)))
        found = layouts.image_set(AccuracyParameters(data=str(tmp_path / "set"), image_set=name))
        predictions = predict(random_classifier, found, 8)
        questions.keep(run, predictions, random_classifier)
        run.finish("the key figure")
        return predictions, repr(other_run.against(run, predictions, found, random_classifier, other))

    run_of("imagenet-1k")
    there = tmp_path / "imagenet-1k"
    predictions, said = run_of("a", str(there))
    assert "is a run over imagenet-1k and this one is over a, " in said
    found = reference.read_reference(str(there))
    without_a_set = dataclasses.replace(found, table=found.table.drop(columns="set"))
    with pytest.raises(InputError, match="answers with classes that cannot be answered here"):
        flips.compare(predictions, without_a_set)


def test_the_margin_is_that_of_the_classes_that_may_be_answered(random_classifier, logits, tmp_path):
    labels, *_ = labels_for("a", logits)
    write("a", labels, tmp_path / "set")
    found = layouts.image_set(AccuracyParameters(data=str(tmp_path / "set"), image_set="a"))
    answered = predict(random_classifier, found, 8)
    margins = answered.named(answered.table).set_index("path")["margin"]
    for path, margin in margins.items():
        row = logits[int(path[-12:-4]) - 1]
        first, second = (float(row[index]) for index in ranked(row, subset("a"))[:2])
        assert margin == pytest.approx(first - second, abs=1e-3)


def test_waiting_for_images_and_computing_fit_into_the_whole(damaged, random_classifier, run):
    began = time.perf_counter()
    predictions = predict(random_classifier, damaged, 1)
    batches, elapsed = predictions.batches, time.perf_counter() - began
    assert (batches[["seconds", "waited"]] > 0).all(axis=None)
    assert (batches["seconds"] + batches["waited"] <= batches["whole"]).all()
    assert batches["whole"].sum() <= elapsed
    questions.keep(run, predictions, random_classifier)
    assert run.record.rows[0].waited_s == pytest.approx(batches["waited"].sum())
    assert re.search(
        r"the device waited for images\D+[\d.]+ s, [\d.]+% of the whole", repr(questions.pace(predictions))
    )


def test_a_set_without_one_readable_image_has_no_batch_times(random_classifier, tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "a.jpg").write_text("no image")
    predictions = predict(random_classifier, folders.class_folders(tmp_path), 2)
    assert "no image could be decoded" in repr(questions.pace(predictions))


def test_a_rule_of_another_set_gives_another_answer(random_classifier, logits, tmp_path):
    """A's classes scored among all 1000 must differ from A's rule, or the test above could not fail."""
    labels, top1, _, _ = labels_for("a", logits)
    write("a", labels, tmp_path / "set")
    found = layouts.image_set(AccuracyParameters(data=str(tmp_path / "set"), image_set="imagenet-1k"))
    assert statistics.score(predict(random_classifier, found, 8)).top1_hits < top1


def test_figures_and_tables_of_a_thousand_classes_are_drawn(random_classifier, logits, run, tmp_path):
    labels, *_ = labels_for("real", logits)
    text = write("real", labels, tmp_path / "set")
    found = layouts.image_set(AccuracyParameters(data=str(tmp_path / "set"), image_set="real", labels=text))
    predictions = predict(random_classifier, found, 8)
    row = statistics.score(predictions)
    expected = published.published_accuracy(SHAPES["6b-224"], "real")
    pictures = questions.overview(predictions, row, expected)
    assert "Published, not measured here: top1 90.44%" in repr(pictures)
    assert "90.437%" in repr(questions.accuracy_table(row, expected))
    assert "n0" in repr(questions.class_figures(predictions)) or "classes" in repr(questions.class_figures(predictions))
    assert predictions.classes[0].startswith("n01440764")


@pytest.fixture
def damaged(tmp_path):
    """Two good images, a truncated one, a text, and one that a label names and that is not there."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for name in "abc":
        picture(60, 60).save(folder / f"{name}.jpg")
    (folder / "c.jpg").write_bytes((folder / "c.jpg").read_bytes()[:300])
    (folder / "d.jpg").write_text("no image")
    picture(60, 60).save(folder / "unlabelled.jpg")
    (tmp_path / "labels.txt").write_text("a.jpg 1\nb.jpg 2\nc.jpg 3\nd.jpg 4\ngone.jpg 5\n")
    return layouts.image_set(
        AccuracyParameters(data=str(folder), labels=str(tmp_path / "labels.txt"), image_set="imagenet-1k")
    )


def test_everything_that_was_not_scored_is_listed_with_path_and_reason(damaged, random_classifier, run):
    predictions = predict(random_classifier, damaged, 2)
    row = questions.keep(run, predictions, random_classifier)
    assert [getattr(row, outcome) for outcome in OUTCOMES] == [2, 2, 1, 1, 0]
    assert checks(run)["every image accounted for"].status == "passed"
    shown = questions.left_out(run, predictions).frame
    listed = pd.read_csv(run.folder / "accuracy_not_scored.csv")
    assert [name.rsplit("/", 1)[1] for name in listed["path"]] == ["c.jpg", "d.jpg", "gone.jpg", "unlabelled.jpg"]
    assert list(listed["outcome"]) == ["unreadable", "unreadable", "missing", "unlabelled"]
    assert listed["reason"].str.len().min() > 5
    assert len(shown) == 4


@pytest.mark.parametrize(("limit", "status"), [(0, "failed"), (2, "failed"), (3, "passed")])
def test_the_limit_on_lost_images_decides(damaged, random_classifier, run, limit, status):
    questions.keep(run, predict(random_classifier, damaged, 2), random_classifier, limit)
    check = checks(run)["no image was lost"]
    assert check.status == status
    assert "3 unreadable, missing or non-finite" in check.detail
    assert "gone.jpg (missing: no such file)" in check.detail


def test_only_the_first_are_shown_and_all_are_kept(run):
    table = pd.DataFrame(
        {"path": [f"{n}.jpg" for n in range(50)], "label": 1, "outcome": "unreadable", "reason": "broken"}
    )
    unread = predictions.Predictions("set", ("a", "b"), table, pd.DataFrame())
    assert len(questions.left_out(run, unread).frame) == 20
    assert len(pd.read_csv(run.folder / "accuracy_not_scored.csv")) == 50


def row_of(right, scored, images, drawn_from=None, right5=None):
    top5 = right5 or right
    rest = dict.fromkeys(("unreadable", "missing", "unlabelled", "nonfinite"), 0)
    ends = dict.fromkeys(("top1_low", "top1_high", "top5_low", "top5_high"), 0.5)
    return AccuracyRow(
        set="imagenet-1k", images=images, drawn_from=drawn_from, scored=scored, **rest, **ends,
        top1_hits=right, top1=right / scored, top5_hits=top5, top5=top5 / scored,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("right", "scored", "status"),
    [
        (61, 64, "skipped"),
        (64, 64, "passed"),
        (63, 64, "passed"),
        (55, 64, "failed"),
        (1900, 2000, "failed"),
        (1940, 2000, "passed"),
    ],
)
def test_the_miniature_fails_only_where_the_whole_interval_is_below_97_percent(right, scored, status, tiny, run):
    truth = np.arange(scored) % 10
    answers = np.where(np.arange(scored) < right, truth, (truth * 7 + 3) % 10)
    found = dataclasses.replace(scored_like(tiny, truth, answers), set_name="digits")
    questions.keep(run, found, tiny)
    check = checks(run)["accuracy"]
    assert check.status == status
    assert f"top-1 {right / scored:.2%} (95 % interval " in check.detail
    assert ("64 images are too few to judge, because the interval contains 97%" in check.detail) == (
        status == "skipped"
    )


@pytest.mark.parametrize(
    ("outcome", "status", "verdict"),
    [("unreadable", "failed", "failed"), ("missing", "failed", "failed"), ("nonfinite", "failed", "failed"),
     ("unlabelled", "skipped", "not_judged")],
)  # fmt: skip
def test_a_run_without_one_scored_image_never_passes(outcome, status, verdict, tiny, run):
    found = scored_like(tiny, [0] * 5, [0] * 5)
    found.table["outcome"] = outcome
    questions.keep(run, found, tiny, bad_limit=5)
    assert checks(run)["accuracy"].status == status
    assert run.finish("h").record.status == verdict


@pytest.mark.parametrize(
    ("row", "passed"),
    [
        (row_of(44_115, 50_000, 50_000, None, 49_237), True),
        (row_of(44_165, 50_000, 50_000, None, 49_237), True),
        (row_of(44_166, 50_000, 50_000, None, 49_237), False),
        (row_of(44_064, 50_000, 50_000, None, 49_237), False),
        (row_of(44_115, 50_000, 50_000, None, 49_180), False),
        (row_of(440, 500, 500, 50_000, 493), None),
        (row_of(400, 500, 500, 50_000, 493), False),
        (row_of(440, 500, 500, 50_000, 460), False),
        (row_of(300, 500, 500, None, 400), None),
        (row_of(300, 500, 500, 5_000, 400), None),
    ],
    ids=["exact", "0.1 above", "more than 0.1 above", "0.1 below", "top-5 off", "a fair draw", "a draw far below",
         "a draw with top-5 far below", "some classes only", "a draw from some classes"],
)  # fmt: skip
def test_the_published_accuracy_is_a_pass_mark_on_the_whole_set_alone(row, passed):
    judged, said = questions.judge_accuracy(row, published.published_accuracy(SHAPES["6b-224"], "imagenet-1k"))
    assert judged is passed
    assert "points" in said


def scored_like(loaded, labels, said):
    table = pd.DataFrame(
        {"path": "x", "label": labels, "outcome": "scored", "reason": "", "class1": said, "score1": 0.5}
    )
    table = table.assign(orientation=1, cmyk=False)
    return predictions.Predictions("set", loaded.classes, table, pd.DataFrame(columns=predictions.TIMES))


def test_labels_that_do_not_line_up_fail_the_run(random_classifier, run):
    truth = np.random.default_rng(0).integers(0, 1000, 300)
    questions.keep(run, scored_like(random_classifier, (truth + 1) % 1000, truth), random_classifier)
    check = checks(run)["labels and classes line up"]
    assert check.status == "failed"
    assert "count from 1" in check.detail
    questions.keep(run, scored_like(random_classifier, truth, truth), random_classifier)
    assert checks(run)["labels and classes line up"].status == "passed"
    questions.keep(run, scored_like(random_classifier, truth[:100], truth[:100]), random_classifier)
    assert checks(run)["labels and classes line up"].status == "passed"
    questions.keep(run, scored_like(random_classifier, truth[:20], (truth[:20] * 7 + 3) % 1000), random_classifier)
    assert checks(run)["labels and classes line up"].status == "skipped"


def test_a_random_head_is_not_asked_to_line_up(random_classifier, run):
    truth = np.random.default_rng(0).integers(0, 1000, 300)
    guessing = dataclasses.replace(
        random_classifier, head_source=dataclasses.replace(random_classifier.head_source, file=None)
    )
    questions.keep(run, scored_like(guessing, truth, truth[::-1]), guessing)
    assert "labels and classes line up" not in checks(run)


def test_a_whole_set_that_was_scored_in_part_is_not_held_against_the_published_figures():
    expected = published.published_accuracy(SHAPES["6b-224"], "imagenet-1k")
    passed, detail = questions.judge_accuracy(row_of(88, 100, 50_000), expected)
    assert passed is None
    assert "100 images were scored, and only a run over all 50,000 of the set" in detail
    real = published.published_accuracy(SHAPES["6b-224"], "real")
    whole = row_of(round(46_837 * real.top1), 46_837, 50_000, None, round(46_837 * real.top5))
    assert questions.judge_accuracy(whole, real)[0] is True


def test_a_published_set_needs_a_trained_head_in_a_notebook_too(random_classifier, logits, run, tmp_path):
    labels, *_ = labels_for("a", logits)
    write("a", labels, tmp_path / "set")
    found = layouts.image_set(AccuracyParameters(data=str(tmp_path / "set"), image_set="a"))
    with pytest.raises(InputError, match="image_set='a' needs a trained head"):
        questions.begin(run, dataclasses.replace(random_classifier, head_source=random_head(SMALL.hidden_size)), found)


def test_the_head_and_its_digest_are_shown_and_one_that_is_not_the_published_one_is_reported(
    random_classifier, logits, run, tmp_path
):
    labels, *_ = labels_for("a", logits)
    write("a", labels, tmp_path / "set")
    found = layouts.image_set(AccuracyParameters(data=str(tmp_path / "set"), image_set="a"))
    shown = repr(questions.begin(run, random_classifier, found))
    assert random_classifier.head_source.sha256 in shown
    assert "The head is not the published one, by its SHA-256." in run.record.caveats


def test_answers_are_ranked_by_logits_even_where_their_scores_are_all_zero():
    logits = torch.tensor([[300.0, *range(100, 110), *[90.0] * 5]])
    best = predictions.best_answers(logits)[0]
    assert [best[f"class{k}"] for k in range(1, 6)] == [0, 10, 9, 8, 7]
