import json
import os

import pytest

from ivit_helpers.errors import InputError
from ivit_helpers.record import record
from ivit_helpers.record.parameters import SmokeParameters
from ivit_helpers.record.rows import SmokeRow
from ivit_helpers.record.run import start


@pytest.fixture
def run(tmp_path):
    return start(SmokeParameters(out=str(tmp_path / "run")))


def test_a_run_is_on_the_disk_as_incomplete_as_soon_as_it_starts(run):
    assert record.read(run.path).status == "incomplete"
    run.check("first", True, "fine")
    assert record.read(run.path).checks[0].name == "first"


def test_the_checks_decide_the_status(run):
    run.check("one", True, "", deciding=True)
    run.check("two", None, "not here")
    assert run.finish("h").record.status == "passed"
    run.check("three", False, "")
    assert run.finish("h").record.status == "failed"


def test_a_run_without_an_answered_check_has_not_passed(run):
    run.check("one", None, "skipped")
    assert run.finish("h").record.status == "failed"


def test_nan_and_infinity_become_null_in_json(run):
    row = SmokeRow(
        implementation="fused",
        dtype="float32",
        batch_size=1,
        relative_error=float("nan"),
        layer_errors=[float("inf"), 1.0],
    )
    run.note(rows=[row])
    [kept] = json.loads(run.path.read_text())["rows"]
    assert (kept["relative_error"], kept["layer_errors"]) == (None, [None, 1.0])


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    record.write_whole(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(InputError, match="cannot be written .disk full."):
        record.write_whole(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize(
    "content", ["", "{}", '{"schema": 3, "notebook": "smoke", "started": ""}', '{"schema": 1, "notebook": "smo']
)
def test_a_file_that_is_not_a_record_is_refused(tmp_path, content):
    (tmp_path / "smoke.json").write_text(content)
    with pytest.raises(InputError, match="is not a record of schema 2"):
        record.read(tmp_path / "smoke.json")


def test_caveats_are_part_of_the_verdict(run):
    run.check("one", True, "", deciding=True)
    run.caveat("The weights are random.")
    assert run.finish("12 images/s").record.verdict == "Passed: all 1 checks. 12 images/s. The weights are random."
