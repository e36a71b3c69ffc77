"""What the `ivit` command asks before anything starts, and how it ends."""

import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ivit_helpers import __main__ as command
from ivit_helpers.accuracy import questions
from ivit_helpers.errors import InputError
from ivit_helpers.record.parameters import AccuracyParameters

KIT = [sys.executable, "-m", "ivit_helpers"]


def test_a_published_set_without_a_trained_head_is_refused(model_folder):
    with pytest.raises(InputError, match="needs a trained head, and there is none beside the weights"):
        questions.check_head(AccuracyParameters(model=str(model_folder), image_set="imagenet-1k"))
    with pytest.raises(InputError, match="put intern_vit_6b_224px_head.pth .* there, or give head=FILE"):
        questions.check_head(AccuracyParameters(model="OpenGVLab/InternViT-6B-224px", image_set="a"))
    questions.check_head(AccuracyParameters(model="OpenGVLab/InternViT-6B-224px", image_set="a", head="head.pth"))
    questions.check_head(AccuracyParameters(model=str(model_folder)))
    questions.check_head(AccuracyParameters(model="random:tiny-224", image_set="imagenet-1k"))


def test_the_device_that_a_run_would_use_is_named_whatever_backend_draws():
    line = [*KIT, "check", "smoke", "-pdevice=cpu"]
    done = subprocess.run(line, env={**os.environ, "MPLBACKEND": "nonsense"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cpu (")


def test_a_run_without_names_is_of_the_notebooks_that_run_the_model():
    assert command.ALL == ("smoke", "benchmark", "accuracy", "explore")
    done = CliRunner().invoke(command.main, ["run", "compare"])
    assert done.exit_code == 2
    assert "'compare' is not one of" in done.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "-p", "divice=cpu"], "has no parameter divice (given 'cpu'): did you mean device?"),
        (["run", "-p", "device"], "-p device is not NAME=VALUE"),
        (["run", "smoke", "-p", "out=a", "--out", "b"], "mean the same thing"),
        (["card", "/nowhere"], "There is no run '/nowhere'"),
        (["compare", "/nowhere"], "compare cannot use runs=['/nowhere']. Allowed: two or more runs"),
        (["card", f"/{'x' * 300}"], "File name too long"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(words, sentence):
    done = CliRunner().invoke(command.main, words)
    assert done.exit_code == 2
    assert sentence in done.output
    assert done.output.startswith("ivit: ")
    assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(28, "No space left on device"), 2),
        (RecursionError("deep"), 2),
        (KeyboardInterrupt(), 128 + signal.SIGINT),
    ],
)
def test_other_errors_end_in_one_handler(error, code, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr(command, "json_schema", fail)
    done = CliRunner().invoke(command.main, ["schema"])
    assert done.exit_code == code
    assert done.output.startswith("ivit: ")


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(command, "json_schema", lambda: {}["bug"])
    assert isinstance(CliRunner().invoke(command.main, ["schema"]).exception, KeyError)
