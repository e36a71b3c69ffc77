"""The notebooks in JupyterLab, as `make lab` starts it: all cells run, and what they show is whole in both of its themes."""

import pytest

from tests.browser import made
from tests.browser.measured import ask, cut, faint

GIVEN = {
    "smoke": {"batch_size": 1, "warmup": 0},
    "benchmark": {
        "batch_sizes": [1, 2],
        "implementations": ["fused", "plain"],
        "warmup": 0,
        "repeats": 3,
        "seconds": 0.1,
    },
    "accuracy": {"limit": 60, "workers": 0},
    "explore": {"limit": 20},
    "compare": {"runs": [str(made.EXAMPLE)] * 2},
}
ON_A_CPU = {"device": "cpu", "dtype": "float32"}
SHOWN = ".jp-OutputArea-output .ivit"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=list(GIVEN))
def ran(request, run_all, tmp_path_factory):
    """A notebook after Run All Cells, with what it showed."""
    name = request.param
    common = {} if name == "compare" else ON_A_CPU
    return run_all(name, **common, **GIVEN[name], out=str(tmp_path_factory.mktemp("runs") / name))


def test_every_cell_ran_and_none_shows_an_error_or_an_empty_box(ran):
    code = [cell for cell in ran.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.output_type == "stream" and not output.text.strip()]
    assert not [output for output in outputs if output.get("name") == "stderr"], "JupyterLab shows it on red"


def test_what_it_shows_is_whole_and_labels_stand_with_their_values(ran, lab):
    assert cut(lab.page, SHOWN) == []
    assert ask(lab.page, "apart", SHOWN) == []


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_colours_follow_jupyterlabs_theme_and_not_the_systems(ran, lab, theme):
    lab.page.emulate_media(color_scheme="dark" if theme == "Light" else "light")
    lab.theme(theme)
    assert faint(lab.page, SHOWN) == []


def test_every_value_of_a_figure_is_said_under_the_pointer(ran, lab):
    assert ask(lab.page, "hidden") == []
    for number, title in enumerate(lab.page.locator(".point title").all_text_contents()[:3]):
        lab.page.mouse.move(*ask(lab.page, "placeOf", number).values())
        [tip] = ask(lab.page, "tip")
        assert tip.split() == title.split()


def test_each_wrong_parameter_is_one_sentence_and_nothing_else_runs(run_all, lab):
    code = [cell for cell in run_all("smoke", batch_size=0, modle="tiny").cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2] + [None] * (len(code) - 2)
    [shown] = lab.outputs.all_inner_texts()
    first, second = shown.strip().splitlines()
    assert (
        first
        == "InputError: smoke cannot use batch_size=0. Allowed: images in the synthetic batch, a whole number from 1 to 4096."
    )
    assert second.startswith("smoke has no parameter modle (given 'tiny'): did you mean model? Known: ")
