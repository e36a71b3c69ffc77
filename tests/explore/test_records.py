"""What an explore run leaves is read where runs are read: card, comparison, index and key figures."""

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ivit_helpers.explore.scores import bars
from ivit_helpers.model_card.card import model_card
from ivit_helpers.record.record import read
from ivit_helpers.record.rows import Answer
from ivit_helpers.report.index import write_index
from ivit_helpers.report.key_figure import key_figures
from tests.notebook import executed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """The folder that `ivit run` leaves of the embedded miniature."""
    folder = tmp_path_factory.mktemp("runs") / "explored"
    words = ["-pdevice=cpu", "-pdtype=float32", "-plimit=20", "-psave=true", f"--out={folder}"]
    done = subprocess.run(
        [sys.executable, "-m", "ivit_helpers", "run", "explore", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_key_figures_are_the_difference_the_answer_and_the_neighbours(left):
    difference, answer, neighbours = key_figures(read(left / "explore.json"))
    assert difference.name == "from the CPU in float64"
    assert (answer.name, answer.value) == ("first answer", "9")
    assert neighbours.value.endswith(" of 6")


def test_the_page_holds_every_part_and_no_widget(left):
    html = (left / "explore.html").read_text()
    assert "is most like 1795.png" in html
    assert "this device and the CPU in float64 agree" in html
    assert "From block to block, 4 of 4" in html
    assert 'href="explore_states.safetensors"' in html
    assert "widget" not in html.partition("<body")[2]
    assert len(html) < 300_000


def test_a_card_and_a_comparison_can_be_made_of_it(left, tmp_path):
    assert "tiny-internvit" in model_card([str(left)], "en")
    record = executed("compare", runs=[str(left), str(left)], out=str(tmp_path)).run.record
    assert [(row.kind, row.outcome) for row in record.rows] == [("ending", "no difference seen")]


def test_the_index_lists_it(left):
    assert 'href="explored/explore.html"' in write_index(left.parent).read_text()


def test_a_bar_says_its_class_and_its_score():
    shown = bars(
        [Answer(name="nine", score=0.9), Answer(name="a score", score=0.1)],
        SimpleNamespace(head_is_trained=True),
        "an image",
    )
    assert re.findall("<title>([^<]*)", shown._repr_html_()) == [
        "score, %: 90\nclass: nine",
        "score, %: 10\nclass: a score",
    ]
