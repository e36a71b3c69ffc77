import numpy as np
import pandas as pd
import pytest

from ivit_helpers.accuracy import alignment
from ivit_helpers.accuracy.alignment import check_alignment
from ivit_helpers.accuracy.predictions import Predictions
from ivit_helpers.images.imagenet import devkit_order, subset, synsets

DEVKIT = np.array([synsets().index(synset) for synset in devkit_order()])
AS_TEXT = np.array([int(text) for text in sorted(map(str, range(1000)))])


def predictions(labels, said, classes=1000, answers=()):
    table = pd.DataFrame({"label": labels, "class1": said, "outcome": "scored"}).astype(
        {"label": "Int64", "class1": "Int64"}
    )
    return Predictions("set", tuple(map(str, range(classes))), table, pd.DataFrame(), answers)


def stub(images=300, right=0.8, classes=1000, seed=0):
    """The true classes of images, and the answers of a model that is right for a share of them."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, images)
    return truth, np.where(generator.random(images) < right, truth, generator.integers(0, classes, images))


def place_in(order):
    """Class index -> the label that a reader with another order gives it."""
    return np.argsort(order)


@pytest.mark.parametrize(
    ("mislabel", "named"),
    [
        (lambda truth: place_in(DEVKIT)[truth], "are devkit ids (ILSVRC2012_ID), less 1"),
        (lambda truth: (place_in(DEVKIT)[truth] + 1) % 1000, "are devkit ids (ILSVRC2012_ID), which count from 1"),
        (lambda truth: DEVKIT[truth], "are sorted synsets, read as devkit ids"),
        (lambda truth: place_in(AS_TEXT)[truth], "are positions in numbers sorted as text"),
        (lambda truth: AS_TEXT[truth], "were sorted as text"),
        (lambda truth: (truth + 1) % 1000, "count from 1"),
    ],
)
@pytest.mark.parametrize(("images", "right"), [(200, 0.4), (2000, 0.88)])
def test_a_known_order_is_named(mislabel, named, images, right):
    truth, said = stub(images, right)
    found = check_alignment(predictions(mislabel(truth), said))
    assert found.lines_up is False
    assert named in found.fitting
    assert found.right_when_fitted == (truth == said).sum()
    assert "labels and classes do not line up" in str(found)
    assert named in str(found)


def test_an_unknown_order_is_reported_without_a_name():
    truth, said = stub()
    found = check_alignment(predictions(np.random.default_rng(5).permutation(1000)[truth], said))
    assert found.lines_up is False
    assert not found.fitting
    assert "no known order" in str(found)


@pytest.mark.parametrize(("classes", "right"), [(1000, 0.12), (1000, 0.88), (200, 0.2), (10, 0.4), (2, 0.75)])
def test_a_model_that_knows_something_is_not_near_chance(classes, right):
    truth, said = stub(400, right, classes)
    assert check_alignment(predictions(truth, said, classes)).lines_up is True


@pytest.mark.parametrize("classes", [1000, 10, 2])
def test_guessing_is_near_chance_and_no_order_is_invented_for_it(classes):
    truth, said = stub(5000, 0, classes)
    found = check_alignment(predictions(truth, said, classes))
    assert found.lines_up is False
    assert not found.fitting


def test_chance_is_counted_from_the_classes_that_may_be_answered():
    generator = np.random.default_rng(0)
    answers = subset("a")
    truth, said = generator.choice(answers, 5000), generator.choice(answers, 5000)
    found = check_alignment(predictions(truth, said, answers=answers))
    assert found.chance == 1 / 200
    assert found.lines_up is False


def answers_of(right, images, classes=1000):
    """`images` labels and answers, of which the first `right` are right and the others are wrong in no order that is known."""
    truth = np.arange(images) % classes
    return truth, np.where(np.arange(images) < right, truth, (truth * 7 + 3) % classes)


@pytest.mark.parametrize(
    ("right", "images", "classes", "lines_up"),
    [
        (0, 199, 1000, False),
        (0, 80, 1000, False),
        (0, 20, 1000, None),
        (1, 20, 1000, None),
        (3, 3, 10, True),
        (1, 1, 10, None),
        (64, 64, 10, True),
        (10, 100, 10, None),
        (100, 1000, 10, False),
        (12, 1000, 1000, False),
    ],
)
def test_small_runs_are_judged_too_and_those_that_cannot_tell_say_so(right, images, classes, lines_up):
    found = check_alignment(predictions(*answers_of(right, images, classes), classes))
    assert found.lines_up is lines_up
    assert ("too few images to tell" in str(found)) == (lines_up is None)


def test_twenty_images_are_enough_where_a_known_order_explains_all_of_them():
    truth = np.arange(20) % 10
    found = check_alignment(predictions((truth + 1) % 10, truth, 10))
    assert found.lines_up is False
    assert "it fits that the labels count from 1; so read, top-1 is 100.00%" in str(found)


def test_images_that_were_not_scored_are_left_out():
    found = predictions(*stub(250, 0))
    found.table.loc[:99, "outcome"] = "unreadable"
    assert check_alignment(found).images == 150
    found.table["outcome"] = "unreadable"
    assert check_alignment(found) is None


def test_every_order_is_a_permutation():
    for classes in (2, 10, 200, 1000):
        for order in alignment.known_orders(classes).values():
            assert sorted(order) == list(range(classes))


def test_an_order_within_the_classes_of_a_set_is_named():
    truth, said = stub(400, 0.8, 200)
    own, as_text = np.array(subset("a")), np.array(sorted(range(200), key=str))
    found = check_alignment(predictions(own[np.argsort(as_text)[truth]], own[said], answers=subset("a")))
    assert found.lines_up is False
    assert "are positions in numbers sorted as text" in found.fitting
    assert found.right_when_fitted == (truth == said).sum()


@pytest.mark.parametrize("classes", [2, 10, 200, 1000])
@pytest.mark.parametrize("images", [1, 2, 5, 20, 50, 79, 199, 360, 1000])
def test_answers_at_or_below_chance_never_line_up_however_few_they_are(images, classes):
    for right in (0, images // classes):
        assert check_alignment(predictions(*answers_of(right, images, classes), classes)).lines_up is not True
