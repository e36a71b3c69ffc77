"""What the `ivit` command asks before anything starts."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ivit_helpers import __main__ as command
from ivit_helpers.accuracy import questions
from ivit_helpers.errors import InputError
from ivit_helpers.record.parameters import AccuracyParameters


def test_a_published_set_without_a_trained_head_is_refused(model_folder):
    with pytest.raises(InputError, match="needs a trained head, and there is none beside the weights"):
        questions.check_head(AccuracyParameters(model=str(model_folder), image_set="imagenet-1k"))
    with pytest.raises(InputError, match="put intern_vit_6b_224px_head.pth .* there, or give head=FILE"):
        questions.check_head(AccuracyParameters(model="OpenGVLab/InternViT-6B-224px", image_set="a"))
    questions.check_head(AccuracyParameters(model="OpenGVLab/InternViT-6B-224px", image_set="a", head="head.pth"))
    questions.check_head(AccuracyParameters(model=str(model_folder)))
    questions.check_head(AccuracyParameters(model="random:tiny-224", image_set="imagenet-1k"))


def test_the_device_that_a_run_would_use_is_named(capsys):
    command.main(["check", "-pdevice=cpu"], standalone_mode=False)
    assert capsys.readouterr().out.startswith("cpu (")


def test_a_plotting_backend_that_does_not_exist_is_not_used():
    line = [sys.executable, "-m", "ivit_helpers", "check", "smoke", "-pdevice=cpu"]
    done = subprocess.run(
        line, env={**os.environ, "MPLBACKEND": "nonsense"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_without_names_is_of_the_notebooks_that_run_the_model():
    assert command.ALL == ("smoke", "benchmark", "accuracy", "explore")
    done = CliRunner().invoke(command.main, ["run", "compare"])
    assert done.exit_code == 2
    assert "'compare' is not one of" in done.output
