"""Every notebook's own cells in this process, on both kinds of CPU; some run twice, as when cells are repeated."""

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

SETTINGS = {
    "smoke": {"batch_size": 2, "warmup": 0},
    "benchmark": {"batch_sizes": [1], "implementations": ["fused", "plain"], "warmup": 0, "repeats": 3, "seconds": 0.2},
    "accuracy": {"data": "synthetic", "limit": 4, "batch_size": 2},
    "explore": {"limit": 4, "block": 2, "attention_head": 1, "patch": 3},
    "compare": {"runs": [str(REPORTS / "examples" / "miniature-on-2-cpu-cores")] * 2},
}
EXAMPLES = sorted((REPORTS / "examples").rglob("*.json"))


@pytest.fixture(scope="module")
def schema():
    """The schema as `ivit schema` prints it."""
    printed = json.loads(CliRunner().invoke(main, ["schema"]).stdout)
    assert printed == json_schema()
    jsonschema.Draft202012Validator.check_schema(printed)
    return jsonschema.Draft202012Validator(printed)


@pytest.mark.parametrize(
    ("name", "has_16_bit_instructions", "times"),
    [
        ("smoke", True, 1),
        ("smoke", False, 2),
        ("benchmark", False, 1),
        ("accuracy", True, 2),
        ("explore", False, 1),
        ("explore", True, 2),
        ("compare", False, 2),
    ],
)
def test_a_notebook_on_either_kind_of_cpu(
    name, has_16_bit_instructions, times, schema, model_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(cpu, "multiplies_natively", lambda dtype: has_16_bit_instructions)
    monkeypatch.setattr(cpu.CPU, "matmul_side", 64)  # the matrix product that the benchmark measures is a small one
    dtype, limit = ("bfloat16", 2e-2) if has_16_bit_instructions else ("float32", 1e-5)
    given = {"model": str(model_folder), "device": "cpu"} if name in MODEL_NOTEBOOKS else {}
    record = executed(name, times, **given, **SETTINGS[name], out=str(tmp_path / "out")).run.record
    assert not record.failed
    names = [check.name for check in record.checks]
    assert len(names) == len(set(names))
    assert len(record.caveats) == len(set(record.caveats))

    if name in MODEL_NOTEBOOKS:
        assert record.model.dtype == dtype
    if name == "smoke":
        assert record.status == "passed"
        [row] = record.rows
        assert row.dtype == dtype
        assert row.relative_error < limit
    if name == "benchmark":
        assert record.status in {"passed", "not_judged"}  # a busy machine is not judged
        assert len(record.rows) == 2
        assert all(row.dtype == dtype and row.images_per_s > 0 and row.relative_error < limit for row in record.rows)
    if name == "accuracy":
        assert record.status == "not_judged", "synthetic images have no labels"
        assert [row.images for row in record.rows] == [4]
    if name == "explore":
        assert record.status == "passed"
        assert [row.block for row in record.rows] == [0, 1, 2, 3]
        assert record.rows[-1].difference < limit
        assert len(record.answers) == 5
        assert len(record.neighbours) == record.gallery_images == 4
        assert "head is random" in record.verdict

    written = json.loads((tmp_path / "out" / f"{name}.json").read_text())
    schema.validate(written)
    row = written["rows"][0]
    for wrong in (
        {"status": "perhaps"},
        {"remark": "a field that nobody knows"},
        {"rows": [{**row, "remark": "a field that nobody knows"}]},
        {"rows": [dict.fromkeys(row, "text")]},
        {"notebook": next(other for other in NOTEBOOKS if other != name)},
    ):
        assert not schema.is_valid({**written, **wrong}), wrong


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_committed_example_fits_the_schema_and_names_no_folder_of_a_machine(path, schema):
    written = json.loads(path.read_text())
    schema.validate(written)
    assert read(path).status == written["status"]
    assert written["parameters"]["out"] == ""


def test_there_are_committed_examples_of_every_notebook():
    assert {path.stem for path in EXAMPLES} >= set(NOTEBOOKS)


@pytest.mark.parametrize(
    ("given", "words"),
    [({"dtype": "int3"}, "dtype"), ({"device": "npu:77"}, "npu"), ({"out": "/dev/null/x"}, "cannot be written")],
)
def test_the_first_cell_says_what_is_wrong_in_one_sentence(given, words):
    from ivit_helpers.errors import InputError
    from ivit_helpers.record.run import start_notebook

    with pytest.raises(InputError, match=words) as error:
        start_notebook("smoke", given)
    assert error.value._render_traceback_() == [f"InputError: {error.value}"]
