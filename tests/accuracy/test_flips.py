import copy
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ivit_helpers.accuracy import flips, other_run, predictions, questions, reference
from ivit_helpers.accuracy.predictions import Predictions, predict
from ivit_helpers.errors import InputError
from ivit_helpers.images import folders
from ivit_helpers.record.parameters import AccuracyParameters
from ivit_helpers.record.record import AccuracyRecord
from ivit_helpers.record.run import start

CLASSES = ("cat", "dog", "fox")


def predicted(answers, margins=None, labels=None, pixels=None):
    """Predictions that say `answers`, one image each; None is an image without an answer."""
    count = len(answers)
    table = pd.DataFrame(
        {
            "id": [f"a/{number:03d}.png" for number in range(count)],
            "label": [0] * count if labels is None else labels,
            "outcome": ["nonfinite" if answer is None else "scored" for answer in answers],
            "pixels": pixels or ["0badcafe"] * count,
            "class1": answers,
            "class2": [None if answer is None else (answer + 1) % 3 for answer in answers],
            "score1": [0.5 if answer is not None else None for answer in answers],
            "score2": [0.25 if answer is not None else None for answer in answers],
            "margin": [
                None if answer is None else margin
                for answer, margin in zip(answers, margins or [1.0] * count, strict=True)
            ],
        }
    )
    return Predictions(
        "made", CLASSES, table.astype({"label": "Int64", "class1": "Int64", "class2": "Int64"}), pd.DataFrame()
    )


@pytest.fixture
def compare(tmp_path):
    def run(here, there):
        path = tmp_path / reference.TABLE
        path.write_text(there.table.to_csv(index=False))
        return flips.compare(
            here, reference.OtherRun(path, reference.read_predictions(path), AccuracyRecord(started=""))
        )

    return run


def test_flips_are_counted_both_ways_and_judged_by_mcnemars_exact_test(compare):
    there = [0] * 10 + [1] * 3 + [1, 2]
    here = [1] * 10 + [0] * 3 + [2, 2]
    found = compare(predicted(here), predicted(there))
    assert found.turned == (10, 3)
    assert len(found.flipped) == 14  # one more went from wrong to wrong
    # two-sided exact binomial test of 3 in 13: 2 (1 + 13 + 78 + 286) / 2^13
    assert found.p == pytest.approx(2 * (1 + 13 + 78 + 286) / 2**13)


def test_two_equal_runs_have_no_flip_and_p_of_one(compare):
    found = compare(predicted([0, 1, 2]), predicted([0, 1, 2]))
    assert (len(found.flipped), found.turned, found.p, found.largest_score_difference) == (0, (0, 0), 1.0, 0.0)


def test_a_flip_at_a_margin_that_rounding_moves_is_explained_and_one_at_a_large_margin_is_not(compare):
    margins = [2.0] * 20
    moved = [2.02] * 18 + [0.05, 1.5]  # the median change is 0.02 logits
    there = predicted([0] * 20, [*margins[:18], 0.05, 1.5])
    here = predicted([0] * 18 + [1, 1], moved)
    found = compare(here, there)
    assert found.near_tie == pytest.approx(0.2)
    assert found.flipped["id"].tolist() == ["a/019.png", "a/018.png"]
    assert found.unexplained["id"].tolist() == ["a/019.png"]
    assert found.flipped["change"].tolist() == pytest.approx([3.0, 0.1])  # from one class ahead to the other


def test_a_flip_that_only_this_run_is_sure_of_is_unexplained_too(compare):
    found = compare(predicted([0, 0, 1], [1.0, 1.0, 3.0]), predicted([0, 0, 0], [1.0, 1.0, 0.001]))
    assert len(found.unexplained) == 1


def test_a_fault_that_moves_every_margin_does_not_make_large_flips_usual(compare):
    found = compare(predicted([0] * 9 + [1], [101.0] * 9 + [95.0]), predicted([0] * 10, [1.0] * 9 + [5.0]))
    assert len(found.unexplained) == 1


def test_a_tie_flips_without_blame_where_all_else_is_equal(compare):
    assert compare(predicted([0, 1], [1.0, 0.004]), predicted([0, 0], [1.0, 0.003])).unexplained.empty


def test_scores_are_compared_class_by_class_whatever_their_rank(compare):
    here, there = predicted([0]), predicted([1])
    there.table[["class1", "class2", "score1", "score2"]] = [1, 0, 0.375, 0.125]
    assert compare(here, there).largest_score_difference == 0.375  # cat: 0.5 here, 0.125 there; dog: 0.25 and 0.375


def test_an_image_that_one_run_did_not_answer_is_named(compare):
    found = compare(predicted([0, None, 1]), predicted([0, 1, None]))
    assert found.answered_once["id"].tolist() == ["a/001.png", "a/002.png"]
    assert len(found.answered) == 1


def test_images_that_were_decoded_differently_are_counted(compare):
    assert compare(predicted([0, 1], pixels=["0badcafe", "00000012"]), predicted([0, 1])).decoded_alike == 1


def test_a_reference_with_more_images_serves_and_one_with_fewer_is_refused(compare):
    assert len(compare(predicted([0, 1]), predicted([0, 1, 2])).answered) == 2
    with pytest.raises(InputError, match=r"lacks 1 of the 3 images of this run \(the first is a/002.png\)"):
        compare(predicted([0, 1, 2]), predicted([0, 1]))


def test_another_label_or_class_is_refused(compare):
    with pytest.raises(InputError, match=r"gives 1 of the 2 images another label \(the first is a/001.png\)"):
        compare(predicted([0, 1], labels=[0, 1]), predicted([0, 1], labels=[0, 0]))
    with pytest.raises(InputError, match="answers with classes that cannot be answered here"):
        compare(predicted([0, 1]), predicted([0, 3]))


def test_any_of_several_right_classes_counts_and_all_of_them_must_agree(compare):
    here, there = predicted([1, 2, 2], labels=[0, 0, None]), predicted([0, 1, 2], labels=[0, 0, None])
    for run in (here, there):
        run.table["also"] = ["1", "1", None]
    assert compare(here, there).turned == (1, 0)  # the second was right there; the first was right in both
    there.table["also"] = ["1", "2", None]
    with pytest.raises(InputError, match="gives 1 of the 3 images another label"):
        compare(here, there)
    with pytest.raises(InputError, match="gives 2 of the 3 images another label"):
        compare(here, predicted([0, 1, 2], labels=[0, 0, None]))
    with pytest.raises(InputError, match="gives 2 of the 3 images another label"):
        compare(predicted([0, 1, 2], labels=[0, 0, None]), here)


def test_without_labels_agreement_is_still_reported(compare):
    found = compare(predicted([0, 1], labels=[None, None]), predicted([0, 2], labels=[None, None]))
    assert (found.labelled, found.turned, len(found.flipped)) == (0, (0, 0), 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "No columns to parse"),
        ("path,label\nx,1\n", "it lacks id, outcome, pixels, class1, score1, margin"),
        (
            "id,label,outcome,pixels,class1,score1,margin\nx,1,scored,0,1,.5,1\nx,1,scored,0,1,.5,1\n",
            "x is in it twice",
        ),
        ("id,label,outcome,pixels,class1,score1,margin\nx,1,scored,0,1,.5,many\n", "is not a number"),
        ("id,label,outcome,pixels,class1,score1,margin\nx,1,scored,0,1,.5,inf\n", "is not a number"),
        (b"\xff\xfe\x00\x01", "decode"),
    ],
)
def test_what_is_no_table_of_predictions_is_reported(tmp_path, content, reason):
    path = tmp_path / "x.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=f"is not a table of predictions .*{reason}"):
        reference.read_predictions(path)


def test_a_reference_that_is_not_there_is_reported(tmp_path):
    with pytest.raises(InputError, match="there is no file .*accuracy_predictions.csv; give the folder"):
        reference.find_predictions(str(tmp_path))


def test_ids_that_look_like_numbers_or_gaps_stay_texts(tmp_path):
    table = predicted([0, 1]).table.assign(id=["007", "NA"], pixels=["00000012", "1e500000"])
    (tmp_path / reference.TABLE).write_text(table.to_csv(index=False))
    read = reference.read_predictions(reference.find_predictions(str(tmp_path)))
    assert (read["id"].tolist(), read["pixels"].tolist()) == (["007", "NA"], ["00000012", "1e500000"])


@pytest.fixture
def digits():
    return folders.digits().drawn(40, 0)


def run_of(folder, loaded, found, other=""):
    """A run from predictions to the comparison, as the notebook makes it."""
    run = start(AccuracyParameters(out=str(folder), reference=str(other)))
    questions.begin(run, loaded, found)
    run.note(environment={"device": "a card"})
    predictions = predict(loaded, found, 8)
    questions.keep(run, predictions, loaded)
    shown = other_run.against(run, predictions, found, loaded, str(other))
    run.finish("the key figure")
    return run, {check.name: check.status for check in run.record.checks}, shown._repr_html_()


def test_a_run_agrees_with_itself_and_names_the_other_runs_device(tmp_path, tiny, digits):
    run_of(tmp_path / "one", tiny, digits)
    run, checks, page = run_of(tmp_path / "two", tiny, digits, tmp_path / "one")
    assert [checks[name] for name in ("same images answered", "flips both ways alike", "every flip a near tie")] == [
        "passed"
    ] * 3
    assert "tiny-internvit in float32 on a card" in page
    assert run.record.rows[0].against["same top-1"].startswith("40 of 40 (100.00%")
    assert run.record.rows[0].against["same pixels, bit for bit"] == "40 of 40"


def test_a_broken_network_is_seen_as_flips_with_their_pictures(tmp_path, tiny, digits):
    run_of(tmp_path / "one", tiny, digits)
    head = copy.deepcopy(tiny.head)
    head.head.bias.data[3] += 100
    _, checks, page = run_of(tmp_path / "two", dataclasses.replace(tiny, head=head), digits, tmp_path / "one")
    assert checks["every flip a near tie"] == checks["flips both ways alike"] == "failed"
    assert page.count("<figcaption>") == 12 + 1  # twelve flips and the figure
    assert "logits), 3 here (by" in page


def test_a_flipped_image_that_has_disappeared_costs_its_picture_only(tmp_path, tiny, digits):
    run_of(tmp_path / "one", tiny, digits)
    head = copy.deepcopy(tiny.head)
    head.head.bias.data[3] += 100
    broken, run = dataclasses.replace(tiny, head=head), start(AccuracyParameters(out=str(tmp_path / "two")))
    predictions = predict(broken, digits, 8)
    questions.keep(run, predictions, broken)
    gone = dataclasses.replace(digits, paths=[path.with_name("gone.png") for path in digits.paths])
    page = other_run.against(run, predictions, gone, broken, str(tmp_path / "one"))._repr_html_()
    assert page.count("(now missing: no such file)</figcaption>") == 12


def test_a_run_over_other_images_is_refused_and_still_concluded(tmp_path, tiny, digits):
    run_of(tmp_path / "one", tiny, folders.digits().drawn(20, 0))
    run, checks, page = run_of(tmp_path / "two", tiny, digits, tmp_path / "one")
    assert checks["comparable with the reference"] == "failed"
    assert "of the 40 images of this run" in page
    assert run.finish("h").record.status == "failed"


def changed(folder, **parts):
    """The record of a run with other contents."""
    path = folder / "accuracy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))


@pytest.mark.parametrize(
    ("tamper", "sentence"),
    [
        (lambda folder: changed(folder, concluded=False), "did not finish"),
        (lambda folder: changed(folder, batch=True), "the command that ran it ended early"),
        (lambda folder: changed(folder, tables={}), "by its SHA-256"),
        (lambda folder: (folder / "accuracy.json").unlink(), "The record .*accuracy.json cannot be read: No such file"),
        (
            lambda folder: (folder / reference.TABLE).write_text(
                (folder / reference.TABLE).read_text().replace("scored", "scored ")
            ),
            "by its SHA-256",
        ),
    ],
    ids=["unfinished", "not judged by its batch", "without a hash", "without a record", "changed"],
)
def test_a_reference_is_the_table_of_a_finished_run(tmp_path, tiny, digits, tamper, sentence):
    run_of(tmp_path / "one", tiny, digits)
    reference.read_reference(str(tmp_path / "one"))
    tamper(tmp_path / "one")
    with pytest.raises(InputError, match=sentence):
        reference.read_reference(str(tmp_path / "one"))


def test_a_run_is_not_compared_with_itself(tmp_path, tiny, digits):
    run, _, _ = run_of(tmp_path / "one", tiny, digits)
    with pytest.raises(InputError, match="is this very run"):
        reference.read_reference(str(tmp_path / "one"), run.record.id)
    run.close()
    with pytest.raises(InputError, match="is in this run's own folder"):
        start(AccuracyParameters(out=str(tmp_path / "one"), reference=str(tmp_path / "one")))
    assert (tmp_path / "one" / "accuracy.json").exists()


def test_without_a_reference_a_sentence_says_so_and_nothing_is_judged(tmp_path, tiny, digits):
    _, checks, page = run_of(tmp_path, tiny, digits)
    assert "none was given" in page
    assert not set(checks) & {
        "same images answered",
        "flips both ways alike",
        "every flip a near tie",
        "comparable with the reference",
    }


def test_ids_are_the_same_wherever_the_folder_lies_and_survive_a_draw(tmp_path):
    drawn = []
    for place in ("one", "two/deeper"):
        for label in ("a", "b"):
            (tmp_path / place / label).mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (8, 8)).save(tmp_path / place / label / f"{number}.png")
        found = folders.class_folders(tmp_path / place).drawn(3, 0)
        drawn.append([found.identity(number) for number in range(3)])
    assert drawn[0] == drawn[1]
    assert all(name[:2] in ("a/", "b/") and name.count("/") == 1 for name in drawn[0])


def test_the_margin_is_the_distance_of_the_two_best_logits():
    logits = torch.tensor([[1.0, 5.5, 3.0], [0.0, 0.0, np.nan]])
    best, broken = predictions.best_answers(logits)
    assert (best["class1"], best["margin"]) == (1, 2.5)
    assert broken == {}
