"""What decides the colour of a run: its checks, and nothing that a file says by itself."""

import json

import pytest

from ivit_helpers.record.parameters import SmokeParameters
from ivit_helpers.record.record import read
from ivit_helpers.record.run import start


@pytest.fixture
def run(tmp_path):
    return start(SmokeParameters(out=str(tmp_path)))


def test_a_run_passes_when_every_check_and_the_deciding_one_passed(run):
    run.check("weights", True, "fine")
    run.check("agreement", True, "fine", deciding=True)
    assert run.finish("12 images/s").record.ending == "Passed: all 2 checks. 12 images/s."


@pytest.mark.parametrize("made", [True, False], ids=["skipped", "never made"])
def test_a_run_without_its_deciding_check_is_not_judged_and_says_why(run, made):
    run.check("weights", True, "fine")
    if made:
        run.check("accuracy", None, "the head is random", deciding=True)
    record = run.finish("64 images").record
    assert record.status == "not_judged"
    reason = "the head is random" if made else "the deciding check was not made"
    assert record.ending == f"Not judged: {reason}. 64 images."


def test_a_skipped_check_that_decides_nothing_does_not_change_the_colour(run):
    run.check("labels", None, "too few images")
    run.check("agreement", True, "fine", deciding=True)
    assert run.finish("").record.status == "passed"


def test_the_reason_of_a_failure_comes_first_and_the_other_failures_are_named(run):
    run.check("weights", True, "fine")
    run.check("forward pass", False, "out of memory: 4 GiB were asked for.", deciding=True)
    run.check("features", False, "nan")
    record = run.finish("no figure").record
    assert (
        record.ending == "Failed: forward pass: out of memory: 4 GiB were asked for; also failed: features. no figure."
    )
    assert [check.name for check in run.finish("").checks] == ["forward pass", "features", "weights"]


def test_a_word_in_the_file_cannot_make_a_run_green(run):
    run.check("agreement", False, "off", deciding=True)
    run.finish("")
    written = json.loads(run.path.read_text())
    assert written["status"] == "failed"
    run.path.write_text(json.dumps(written | {"status": "passed"}))
    assert read(run.path).status == "failed"


def test_a_run_that_never_reached_its_conclusion_did_not_finish_whatever_its_checks_say(run):
    run.check("agreement", True, "fine", deciding=True)
    assert read(run.path).status == "incomplete"
    assert read(run.path).ending == "Did not finish: it has not reached its conclusion."
