"""Paths in one piece of memory are the paths that were given."""

import os
import pickle
from pathlib import Path

import pytest

from ivit_helpers.images.compact import Paths
from ivit_helpers.images.labelled_images import LabelledImages

GIVEN = [Path("/a/b.png"), Path("é/ß.png"), Path(os.fsdecode(b"\xff.png")), Path(), Path("a\nb")]


def test_they_come_back_one_by_one_in_order_and_from_the_end():
    paths = Paths(GIVEN)
    assert list(paths) == GIVEN
    assert len(paths) == len(GIVEN)
    assert (paths[0], paths[-1]) == (GIVEN[0], GIVEN[-1])
    assert list(paths[1:3]) == GIVEN[1:3]
    with pytest.raises(IndexError):
        paths[len(GIVEN)]


def test_two_of_the_same_paths_are_equal_and_survive_a_process():
    assert Paths(GIVEN) == pickle.loads(pickle.dumps(Paths(GIVEN)))
    assert Paths(GIVEN) != Paths(GIVEN[:-1])


def test_a_set_keeps_its_paths_so():
    assert LabelledImages("x", GIVEN, [None] * len(GIVEN), []).paths == Paths(GIVEN)
    assert len(pickle.dumps(Paths([Path(f"{number:06d}") for number in range(10_000)]))) < 150_000
