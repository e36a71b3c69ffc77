"""Several processes give the table of one: shared out, killed, gone on with, and from a user's own torchrun."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ivit_helpers.accuracy.earlier import journals
from ivit_helpers.accuracy.journal import read_journal
from ivit_helpers.record.record import read
from tests.accuracy import killing
from tests.notebook import executed

ROOT = Path(__file__).parents[2]
GIVEN = {"device": "cpu", "dtype": "float32", "limit": 42, "batch_size": 4}
WORDS = [f"-p{name}={value}" for name, value in GIVEN.items()]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The predictions of one process."""
    folder = tmp_path_factory.mktemp("one")
    executed("accuracy", **GIVEN, out=str(folder))
    return killing.table_in(folder)


@pytest.mark.slow
@pytest.mark.parametrize("scaling", [False, True])
def test_two_processes_give_the_table_of_one_byte_for_byte(scaling, expected, tmp_path):
    left = executed("accuracy", **GIVEN, out=str(tmp_path), devices="cpu:2", scaling=scaling)
    assert killing.table_in(tmp_path) == expected
    record = left.run.record
    assert [row.process for row in record.cards] == [0, 1]
    assert sum(row.images for row in record.cards) == 42 - (12 if scaling else 0)
    assert record.all_cards.images == sum(row.images for row in record.cards)
    assert (record.all_cards.scaling_efficiency is not None) == scaling
    assert all(row.images_per_s > 0 and not row.failed for row in record.cards)
    page = " ".join(left.shown)
    for words in (
        "images/s, all over the wall clock",
        "images/s, sum of the cards",
        "images/s, with starting and loading",
    ):
        assert words in page
    assert ("scaling efficiency" in page) == scaling
    assert not list(tmp_path.glob("accuracy_cards*"))
    assert not list(tmp_path.glob("*.journal"))


@pytest.mark.slow
def test_processes_of_a_users_own_torchrun_share_the_work_out(expected, tmp_path):
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--local-addr=127.0.0.1",
        "--nproc-per-node=2",
    ]
    line = [*torchrun, "-m", "ivit_helpers", "run", "accuracy", *WORDS, "--out", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert killing.table_in(tmp_path) == expected
    assert [row.process for row in read(tmp_path / "accuracy.json").cards] == [0, 1]
    assert done.stdout.count(" accuracy: ") == 1, "another process than the first made a report, too"


def stopped(folder, number, words):
    """Run `ivit` on two processes until they answer, and send a signal to one of these words; gives exit code and output."""
    line = [
        sys.executable,
        "-m",
        "ivit_helpers",
        "run",
        "accuracy",
        "-pdevices=cpu:2",
        "-pdtype=float32",
        "-pbatch_size=4",
        "-pworkers=0",
    ]
    process = subprocess.Popen(
        [*line, "--out", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    before = set(journals(folder)) if folder.exists() else set()
    while not folder.exists() or not any(read_journal(path).rows for path in set(journals(folder)) - before):
        assert process.poll() is None, process.stderr.read()
    started = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    next(one for one in started if words in " ".join(one.cmdline())).send_signal(number)
    out, error = process.communicate(timeout=killing.PATIENCE)
    assert "Traceback" not in out + error
    assert not psutil.wait_procs(started, killing.PATIENCE)[1], "a process is left"
    return process.returncode, out


@pytest.mark.slow
def test_a_killed_process_and_a_stopped_run_have_codes_of_their_own_and_name_the_command_that_goes_on(tmp_path):
    folder = tmp_path / "run"
    code, out = stopped(folder, signal.SIGKILL, "-m ivit_helpers.accuracy.process")
    assert code == 3
    record = read(folder / "accuracy.json")
    killed = [row for row in record.cards if row.failed and "it was killed" in row.failed]
    assert killed, "no process is named as the one that was killed"
    assert f"process {killed[0].process} ({killed[0].failed})" in out
    assert f"The answers that there are stay. Go on with: {record.resume}" in out
    assert killing.rows_in(folder)

    if sum(row.images for row in record.cards) < 320:  # else nothing may be left to stop
        code, out = stopped(folder, signal.SIGTERM, "ivit_helpers run")
        assert code == 143
        assert f"stopped by SIGTERM; 9 of 15 code cells did not run. Go on with: {record.resume}" in out

    words = shlex.split(record.resume)
    assert words[:3] == ["ivit", "run", "accuracy"]
    done = subprocess.run([sys.executable, "-m", "ivit_helpers", *words[1:]], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    reasons = [one.reason for one in read(folder / "accuracy.json").interruptions]
    assert "it was killed" in reasons[0]
    assert "Go on" not in " ".join(reasons)
    assert "stopped by SIGTERM" in reasons[-1] or len(reasons) == 1
    assert len(killing.table_in(folder)) == 361


@pytest.mark.slow
def test_an_evaluation_that_is_killed_anywhere_goes_on_with_nothing_lost_doubled_or_different(tmp_path):
    found = killing.chain(tmp_path, 1, 3, killing.untouched(tmp_path / "untouched"))
    assert found.total() == 3
