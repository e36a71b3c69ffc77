"""What a record says about where it comes from, and how it is repeated."""

import shlex

from click.testing import CliRunner

from ivit_helpers.__main__ import main
from ivit_helpers.record.parameters import AccuracyParameters, BenchmarkParameters, SmokeParameters, parse, share_out
from ivit_helpers.record.provenance import command
from ivit_helpers.record.run import start


def test_the_command_gives_the_same_parameters_again():
    asked = BenchmarkParameters(model="random:tiny-224", batch_sizes=[1, 2], seconds=0.5, verify=True, out="somewhere")
    words = shlex.split(command(asked))
    assert words[:3] == ["ivit", "run", "benchmark"]
    given = [word for word in words[3:] if word != "-p"]
    assert share_out(["benchmark"], parse(given))["benchmark"] == asked.model_copy(update={"out": ""})


def test_a_path_with_spaces_survives_the_shell():
    assert "-p 'data=/a folder/val'" in command(AccuracyParameters(data="/a folder/val"))


def test_a_run_of_defaults_is_repeated_by_the_bare_command(tmp_path):
    record = start(SmokeParameters(out=str(tmp_path))).record
    assert record.provenance.command == "ivit run smoke"
    assert len(record.provenance.notebook_sha256) == 64
    assert CliRunner().invoke(main, ["--version"]).output.endswith(f"{record.provenance.kit}\n")
