"""The JSON schema that `ivit schema` prints describes the records that the notebooks write."""

import json

import jsonschema
import pytest
from click.testing import CliRunner

from ivit_helpers.__main__ import main
from ivit_helpers.device import cpu
from ivit_helpers.paths import REPORTS
from ivit_helpers.record.parameters import MODEL_NOTEBOOKS, NOTEBOOKS
from ivit_helpers.record.record import json_schema, read
from tests.notebook import executed

SHORT = {
    "smoke": {"batch_size": 1, "warmup": 0},
    "benchmark": {"batch_sizes": [1], "warmup": 0, "repeats": 3},
    "accuracy": {"data": "synthetic", "limit": 2},
    "explore": {"limit": 2},
    "compare": {"runs": [str(REPORTS / "examples" / "miniature-on-2-cpu-cores")] * 2},
}


@pytest.fixture(scope="module")
def schema():
    """The schema as `ivit schema` prints it."""
    printed = json.loads(CliRunner().invoke(main, ["schema"]).stdout)
    assert printed == json_schema()
    jsonschema.Draft202012Validator.check_schema(printed)
    return jsonschema.Draft202012Validator(printed)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_record_of_a_notebook_fits_the_schema_and_a_changed_one_does_not(
    name, schema, model_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(cpu.CPU, "matmul_side", 64)
    given = {"model": str(model_folder), "device": "cpu", "dtype": "float32"} if name in MODEL_NOTEBOOKS else {}
    written = json.loads(executed(name, **given, **SHORT[name], out=str(tmp_path / "out")).run.path.read_text())
    schema.validate(written)
    assert written["rows"]
    assert written["checks"]
    assert written["model"] or written["runs"]
    [row] = written["rows"][:1]
    for wrong in (
        {"status": "perhaps"},
        {"remark": "a field that nobody knows"},
        {"rows": [{**row, "remark": "a field that nobody knows"}]},
        {"rows": [dict.fromkeys(row, "text")]},
        {"notebook": next(other for other in NOTEBOOKS if other != name)},
    ):
        assert not schema.is_valid({**written, **wrong}), wrong


EXAMPLES = sorted((REPORTS / "examples").rglob("*.json"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_committed_example_fits_the_schema_and_names_no_folder_of_a_machine(path, schema):
    written = json.loads(path.read_text())
    schema.validate(written)
    assert read(path).status == written["status"]
    assert written["parameters"]["out"] == ""


def test_there_are_committed_examples_of_every_notebook_that_runs_the_model_and_of_a_comparison():
    assert {path.stem for path in EXAMPLES} >= {*MODEL_NOTEBOOKS, "compare"}
