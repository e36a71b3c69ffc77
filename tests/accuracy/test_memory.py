"""Neither the memory of a run nor its page grows with the image set."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ivit_helpers.accuracy import figures
from ivit_helpers.accuracy.columns import BLOCK, PIECE, Columns, in_pieces

SCRIPT = Path(__file__).parents[2] / "tools" / "measure_memory.py"
MOST_MIB, MOST_PAGE = 300, 1_000_000


@pytest.fixture
def chance():
    return np.random.default_rng(0)


def test_a_hundred_thousand_batches_are_drawn_as_their_extremes(chance):
    seconds = chance.uniform(0.01, 0.02, 100_000)
    seconds[[70_000, 80_000]] = 0.5, 0.001
    drawn = figures.batch_times(pd.DataFrame({"seconds": seconds}))
    assert len(drawn._repr_html_()) < 60_000
    assert len(figures.batch_times(pd.DataFrame({"seconds": seconds[:1000]}))._repr_html_()) < 60_000


def test_fifty_thousand_margins_are_a_figure_of_moderate_size(chance):
    answered = pd.DataFrame({"margin_there": chance.exponential(3, 50_000), "change": chance.exponential(0.01, 50_000)})
    answered["flipped"] = answered["change"] > answered["margin_there"]
    assert len(figures.margin_changes(answered, 0.1)._repr_html_()) < 200_000


def test_a_thousand_classes_are_a_figure_of_moderate_size(chance):
    names = [f"class {number}" for number in range(1000)]
    counts = pd.DataFrame(chance.poisson(0.05, (1000, 1000)) + np.diag(chance.poisson(45, 1000)), names, names)
    assert len(figures.confusion(counts)._repr_html_()) < 500_000


ROW = {
    "label": 1,
    "outcome": "scored",
    "reason": "",
    "pixels": "0badcafe",
    "orientation": 6,
    "cmyk": False,
    "class1": 3,
    "score1": 0.1,
}


def test_rows_become_typed_columns_that_hold_them_exactly():
    columns = Columns([*ROW, "also", "margin"])
    score = float(np.float32(0.1))
    for number in range(BLOCK + 3):
        columns.add({**ROW, "score1": score, "label": number or None})
    table = columns.table()
    assert len(table) == BLOCK + 3
    assert table["label"].tolist() == [pd.NA, *range(1, BLOCK + 3)]
    assert {name: list(table[name].unique()) for name in ("outcome", "pixels", "orientation", "cmyk", "class1")} == {
        "outcome": ["scored"], "pixels": ["0badcafe"], "orientation": [6], "cmyk": [False], "class1": [3],
    }  # fmt: skip
    assert table.drop(columns=["pixels", "outcome", "reason", "also"]).memory_usage(deep=True).sum() < 40 * len(table)
    assert table[["also", "margin"]].isna().all(axis=None)
    [piece] = in_pieces(table)
    assert set(piece["score1"]) == {score}


def test_a_long_table_is_written_in_pieces_that_leave_nothing_out():
    table = pd.DataFrame({"class1": range(2 * PIECE + 1)})
    pieces = list(in_pieces(table))
    assert [len(piece) for piece in pieces] == [PIECE, PIECE, 1]
    pd.testing.assert_frame_equal(pd.concat(pieces), table)
    assert [len(piece) for piece in in_pieces(table[:0])] == [0]


@pytest.mark.slow
def test_fifty_thousand_images_take_little_more_memory_than_five_hundred_and_their_page_is_small():
    said = subprocess.run(
        [sys.executable, str(SCRIPT), "500", "50000"], check=True, capture_output=True, text=True
    ).stdout
    *_, page = said.splitlines()[1].split("page ")
    grown = int(said.splitlines()[-1].split(" MiB more than 500")[0].split(" take ")[1])
    assert grown < MOST_MIB, said
    assert 1e6 * float(page.removesuffix(" MB")) < MOST_PAGE, said
