import ast
import json

import pytest

from ivit_helpers.errors import InputError
from ivit_helpers.record import parameters
from ivit_helpers.record.parameters import BenchmarkParameters, SmokeParameters
from ivit_helpers.report import execute


def test_a_mistyped_name_is_refused_with_the_nearest_known_one():
    with pytest.raises(InputError, match=r"no parameter batch_sise \(given 2\): did you mean batch_sizes\?"):
        parameters.validate(BenchmarkParameters, {"batch_sise": 2})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_sizes", [0]),
        ("batch_sizes", []),
        ("batch_sizes", "[1.5]"),
        ("repeats", 2),
        ("dtype", "bf16"),
        ("device", "gpu"),
        ("implementations", ["flash"]),
        ("seconds", "soon"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_is_allowed(name, value):
    with pytest.raises(InputError) as error:
        parameters.validate(BenchmarkParameters, {name: value})
    text = str(error.value)
    assert name in text
    assert "Allowed:" in text


@pytest.mark.parametrize("given", [[1, 2], (1, 2), "[1,2]", "1,2", "[1, 2]"])
def test_lists_are_read_from_lists_and_from_command_line_text(given):
    assert parameters.validate(BenchmarkParameters, {"batch_sizes": given}).batch_sizes == [1, 2]


def test_one_item_stands_for_a_list_of_one():
    chosen = parameters.validate(BenchmarkParameters, {"batch_sizes": 8, "implementations": "plain"})
    assert (chosen.batch_sizes, chosen.implementations) == ([8], ["plain"])


def test_a_name_that_papermill_injects_must_be_a_parameter_and_other_variables_need_not():
    cells = ["# Parameters\nmodel: str = 'tiny'", "# Parameters\nbatch_sise = 2", "rows = 3"]
    namespace = {"In": ["", *cells], "model": "tiny", "batch_sise": 2, "rows": 3}
    with pytest.raises(InputError, match="batch_sise"):
        parameters.of_notebook(SmokeParameters, namespace)
    namespace["In"] = ["", cells[0], cells[2]]
    assert parameters.of_notebook(SmokeParameters, namespace).model == "tiny"


def test_each_notebook_is_given_the_parameters_it_knows():
    shared = parameters.share_out(["smoke", "benchmark"], {"batch_sizes": "[2]", "device": "cpu"})
    assert shared["benchmark"].batch_sizes == [2]
    assert shared["smoke"].device == "cpu"
    with pytest.raises(InputError, match="no parameter image_pth .* did you mean image_path"):
        parameters.share_out(["smoke"], {"image_pth": "x"})


def test_a_word_without_an_equals_sign_is_refused():
    with pytest.raises(InputError, match="NAME=VALUE"):
        parameters.parse(["device"])


@pytest.mark.parametrize("name", parameters.NOTEBOOKS)
def test_the_notebooks_state_the_same_names_and_defaults(name):
    cells = json.loads((execute.NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
    [source] = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    assert source.startswith(parameters.MARK)
    stated = {node.target.id: ast.literal_eval(node.value) for node in ast.parse(source).body}
    assert stated == parameters.NOTEBOOKS[name]().model_dump()
