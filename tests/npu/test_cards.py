"""Eight pretend cards in torchrun: what one of them does costs the others nothing, and nothing that was answered is lost."""

import pytest

from ivit_helpers.record.record import read
from tests.accuracy.killing import table_in
from tests.notebook import executed

WORDS = ["run", "accuracy", "-pdtype=float32", "-pbatch_size=4", "-plimit=96", "-pworkers=0"]
EIGHT = {"NPU_RIG_CARDS": "8", "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_eight_cards_of_which_one_refuses_one_is_full_and_one_is_lost_end_with_the_table_of_one(ivit, tmp_path):
    several = [*WORDS, "-pdevices=8", f"--out={tmp_path / 'eight'}"]
    ended = {"NPU_RIG_DEAD_CARD": "2", "NPU_RIG_ENDS": "3=lost@3,5=memory@2"}
    first = ivit(*several, **EIGHT, **ended)
    assert first.returncode == 3, first.stdout + first.stderr
    record = read(tmp_path / "eight" / "accuracy.json")
    failed = {row.process: row.failed for row in record.cards if row.failed}
    assert list(failed) == [2, 3, 5]
    assert "device='npu:2' is there but does not start" in failed[2]
    assert "507015" in failed[3]
    assert "the card is lost to this process: look at it with `npu-smi info`" in failed[3]
    assert "npu:5 (Ascend910B4): out of memory: NPU out of memory" in failed[5]
    images = {row.process: row.images for row in record.cards}
    assert images == {0: 12, 1: 12, 2: 0, 3: 8, 4: 12, 5: 4, 6: 12, 7: 12}
    assert record.status == "incomplete"
    assert (
        "of 96 images are not answered, because a process ended early: process 2 (device='npu:2' is there"
        in record.reason
    )
    assert f"The answers that there are stay. Go on with: {record.resume}" in first.stdout
    page = (tmp_path / "eight" / "accuracy.html").read_text()
    assert "Did not finish" in page
    assert "npu:5 (Ascend910B4): out of memory" in page

    second = ivit(*WORDS, "-pdevices=npu:0-1", f"--out={tmp_path / 'eight'}", **EIGHT)
    assert second.returncode == 0, second.stdout + second.stderr
    record = read(tmp_path / "eight" / "accuracy.json")
    [one] = record.interruptions
    assert one.images == sum(images.values())
    assert sum(row.images for row in record.cards) == 96 - one.images
    assert "process 2 (device=" in one.reason
    assert one.reason.partition(" (")[0] in (tmp_path / "eight" / "accuracy.html").read_text()

    executed("accuracy", device="npu", dtype="float32", batch_size=4, limit=96, workers=0, out=str(tmp_path / "one"))
    assert table_in(tmp_path / "eight") == table_in(tmp_path / "one")


def test_more_cards_than_there_are_are_refused_before_anything_starts(check):
    code, output = check("accuracy", "-pdevices=npu:0-7", NPU_RIG_CARDS="4")
    assert code == 2
    assert (
        "devices='npu:0-7' asks for 8 cards, and npu:4, npu:5, npu:6, npu:7 are not there: this machine has 4" in output
    )


def test_the_cards_that_a_run_would_use_are_named(check):
    assert check("accuracy", "-pdevices=npu:1-3", NPU_RIG_CARDS="4") == (
        0,
        "npu:1 (Ascend910B4), bfloat16, and npu:2, npu:3\n",
    )
