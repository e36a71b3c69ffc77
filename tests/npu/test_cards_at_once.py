"""The benchmark of several cards at once, on pretend cards."""

import pytest

from ivit_helpers.record import record

SHORT = ("-pdtype=float32", "-pbatch_sizes=1", "-pimplementations=fused", "-pwarmup=0", "-prepeats=3", "-pseconds=1")


@pytest.mark.slow
def test_two_cards_are_timed_at_once_and_the_first_alone(ivit, tmp_path):
    done = ivit("run", "benchmark", "-pdevices=npu:0-1", *SHORT, f"--out={tmp_path}", NPU_RIG_CARDS="2")
    assert done.returncode == 0, done.stdout + done.stderr
    kept = record.read(tmp_path / "benchmark.json").cards
    assert [(one.card, one.process, one.error) for one in kept.cards] == [("npu:0", 0, 0.0), ("npu:1", 1, 0.0)]
    assert all(0 < one.host_ms <= one.device_ms for one in kept.cards)
    assert kept.alone_host_ms <= kept.alone_device_ms
    assert (
        "All cards at once, and the first alone: fused, float32, batch 1" in (tmp_path / "benchmark.html").read_text()
    )


def test_a_card_that_is_not_there_is_named_before_anything_is_timed(check):
    code, said = check("benchmark", "-pdevices=npu:0-2", NPU_RIG_CARDS="2")
    assert code == 2
    assert "npu:2 is not there: this machine has 2, numbered 0 to 1" in said
