"""tools/simulate_scale.py, at a small size."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
SCRIPT = TOOLS / "simulate_scale.py"


@pytest.fixture
def simulate(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    import simulate_scale

    return simulate_scale


@pytest.mark.parametrize(("images", "cards"), [(1000, 7), (5, 8), (64, 1)])
def test_every_image_is_answered_once_over_three_runs(simulate, images, cards):
    answered = [
        number for done in simulate.shares(images, cards) for groups in done for group in groups for number in group
    ]
    assert sorted(answered) == list(range(images))


def test_the_slowest_of_many_cards_is_slower_than_of_few(simulate):
    assert 1 < simulate.imbalance(2) < simulate.imbalance(100) < 1.12


def test_journals_that_lack_an_image_are_noticed(simulate, tmp_path):
    simulate.writing(600, 3, tmp_path)
    path = max(tmp_path.glob("*.journal"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-2])
    for stage in (simulate.row_by_row, simulate.by_dict, simulate.reading):
        with pytest.raises(
            Exception, match=r"image \d+ was left out or came twice|\d+ of 600 images (were merged|are left)"
        ):
            stage(600, 3, tmp_path)


@pytest.mark.slow
def test_it_prints_what_was_measured_and_what_is_arithmetic(tmp_path):
    words = ["--images", "2000", "--listed", "300", "--target", "4000", "--cards", "4", "--folder", str(tmp_path)]
    said = subprocess.run([sys.executable, str(SCRIPT), *words], check=True, capture_output=True, text=True).stdout
    assert len(re.findall(r"images: +[\d.]+ s, +[\d,]+ MiB; by arithmetic 4,000: ", said)) == 7, said
    assert "sharing out, three runs" in said
    assert not list(tmp_path.iterdir())
