"""The record: on the disk at every moment, and judged by its checks, by nothing that a file says by itself."""

import json
import os

import pytest

from ivit_helpers.errors import InputError
from ivit_helpers.record import record
from ivit_helpers.record.parameters import SmokeParameters
from ivit_helpers.record.record import read
from ivit_helpers.record.rows import SmokeRow
from ivit_helpers.record.run import start


@pytest.fixture
def run(tmp_path):
    return start(SmokeParameters(out=str(tmp_path / "run")))


def test_a_run_is_on_the_disk_as_incomplete_until_its_conclusion(run):
    assert read(run.path).status == "incomplete"
    run.check("agreement", True, "fine", deciding=True)
    assert read(run.path).checks[0].name == "agreement"
    assert read(run.path).ending == "Did not finish: it has not reached its conclusion."


def test_a_run_passes_when_every_check_and_the_deciding_one_passed(run):
    run.check("weights", True, "fine")
    run.check("labels", None, "too few images")
    run.check("agreement", True, "fine", deciding=True)
    run.caveat("The weights are random.")
    assert run.finish("12 images/s").record.verdict == "Passed: all 2 checks. 12 images/s. The weights are random."


@pytest.mark.parametrize("made", [True, False], ids=["skipped", "never made"])
def test_a_run_without_its_deciding_check_is_not_judged_and_says_why(run, made):
    run.check("weights", True, "fine")
    if made:
        run.check("accuracy", None, "the head is random", deciding=True)
    finished = run.finish("64 images").record
    assert finished.status == "not_judged"
    reason = "the head is random" if made else "the deciding check was not made"
    assert finished.ending == f"Not judged: {reason}. 64 images."


def test_the_reason_of_a_failure_comes_first_and_the_other_failures_are_named(run):
    run.check("weights", True, "fine")
    run.check("forward pass", False, "out of memory: 4 GiB were asked for.", deciding=True)
    run.check("features", False, "nan")
    conclusion = run.finish("no figure")
    assert conclusion.record.ending == (
        "Failed: forward pass: out of memory: 4 GiB were asked for; also failed: features. no figure."
    )


def test_a_run_without_an_answered_check_has_not_passed(run):
    run.check("one", None, "skipped")
    assert run.finish("h").record.status == "failed"


def test_a_word_in_the_file_cannot_make_a_run_green(run):
    run.check("agreement", False, "off", deciding=True)
    run.finish("")
    written = json.loads(run.path.read_text())
    assert written["status"] == "failed"
    run.path.write_text(json.dumps(written | {"status": "passed"}))
    assert read(run.path).status == "failed"


def test_nan_and_infinity_become_null_in_json(run):
    errors = {"relative_error": float("nan"), "layer_errors": [float("inf"), 1.0]}
    run.note(rows=[SmokeRow(implementation="fused", dtype="float32", batch_size=1, **errors)])
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


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_permissions_of_the_users_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        record.write_whole(tmp_path / "x", "content")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(
    "content", ["", "{}", '{"schema": 1, "notebook": "smoke", "started": ""}', '{"schema": 2, "notebook": "smo']
)
def test_a_file_that_is_not_a_record_is_refused(tmp_path, content):
    (tmp_path / "smoke.json").write_text(content)
    with pytest.raises(InputError, match="is not a record of schema 2"):
        read(tmp_path / "smoke.json")
