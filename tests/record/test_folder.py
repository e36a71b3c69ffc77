"""One run has one folder: of its own, locked while the run lasts, without anything of an earlier run."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ivit_helpers.errors import InputError
from ivit_helpers.record import folder
from ivit_helpers.record.parameters import AccuracyParameters, SmokeParameters
from ivit_helpers.record.record import read, write_whole
from ivit_helpers.record.run import start

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def reports(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "REPORTS", tmp_path / "reports")
    return tmp_path / "reports"


def test_runs_of_the_same_second_get_folders_of_their_own(reports):
    begun = [folder.RunFolder(SmokeParameters(device="cpu")) for _ in range(5)]
    assert len({one.path for one in begun}) == 5
    assert all(one.path.parent == reports for one in begun)


def test_runs_that_start_at_once_in_many_processes_get_folders_of_their_own(tmp_path, reports):
    begin = (
        f"from ivit_helpers.record import folder\nfrom ivit_helpers.record.parameters import SmokeParameters\n"
        f"from pathlib import Path\nfolder.REPORTS = Path({str(reports)!r})\n"
        "print(folder.RunFolder(SmokeParameters(device='cpu')).path)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", begin], stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in running}) == 4


def test_a_folder_that_a_run_of_another_process_uses_is_refused(tmp_path):
    hold = (
        "import sys\nfrom ivit_helpers.record.parameters import SmokeParameters\nfrom ivit_helpers.record.run import start\n"
        "run = start(SmokeParameters(out=sys.argv[1]))\nprint('begun', flush=True)\nsys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert holder.stdout.readline() == b"begun\n"
        before = (tmp_path / "run" / "smoke.json").read_bytes()
        with pytest.raises(InputError, match="is used by another run that has not ended"):
            start(SmokeParameters(out=str(tmp_path / "run")))
        assert (tmp_path / "run" / "smoke.json").read_bytes() == before
        assert folder.is_used(tmp_path / "run")
    finally:
        holder.kill()
        holder.communicate()
    assert not folder.is_used(tmp_path / "run"), "a killed run still holds its folder"
    assert (
        start(SmokeParameters(out=str(tmp_path / "run"))).record.id
        != read(next((tmp_path / "run").rglob("earlier/*/smoke.json"))).id
    )


def test_what_an_earlier_run_left_is_moved_aside_and_what_is_not_a_runs_stays(tmp_path):
    names = ("smoke.json", "smoke.html", "smoke.ipynb", "accuracy_predictions.csv", "benchmark.json")
    for name in (*names, "notes.txt", "index.html"):
        (tmp_path / name).write_text(name)
    begun = folder.RunFolder(SmokeParameters(out=str(tmp_path)))
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "index.html", "earlier", folder.LOCK}
    assert {path.name for path in begun.set_aside.iterdir()} == set(names)
    begun.close()
    again = folder.RunFolder(SmokeParameters(out=str(tmp_path)))
    assert again.set_aside is None


def test_a_cell_that_begins_the_run_again_begins_a_run_of_its_own(tmp_path):
    first = start(SmokeParameters(out=str(tmp_path)))
    second = start(SmokeParameters(out=str(tmp_path)))
    assert first.record.id != second.record.id
    assert read(tmp_path / "smoke.json").id == second.record.id


def test_a_closed_folder_may_be_used_by_the_next_run(tmp_path):
    folder.RunFolder(SmokeParameters(out=str(tmp_path))).close()
    assert not folder.is_used(tmp_path)
    assert not (tmp_path / folder.LOCK).exists()


def test_tables_carry_the_id_and_the_record_their_hash(tmp_path):
    import hashlib

    import pandas as pd

    run = start(AccuracyParameters(out=str(tmp_path)))
    run.table("predictions", pd.DataFrame({"a": [1, 2]}))
    content = (tmp_path / "accuracy_predictions.csv").read_bytes()
    assert content.decode() == f"a,run\n1,{run.record.id}\n2,{run.record.id}\n"
    assert read(tmp_path / "accuracy.json").tables == {"accuracy_predictions.csv": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_permissions_of_the_users_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "x", "content")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == mode


def test_the_check_of_a_folder_leaves_nothing_behind(tmp_path):
    folder.check_folder(SmokeParameters(out=str(tmp_path / "a" / "b")))
    assert not list(tmp_path.iterdir())


def test_an_earlier_run_is_filed_under_the_time_of_its_last_file(tmp_path):
    (tmp_path / "smoke.json").write_text("{}")
    os.utime(tmp_path / "smoke.json", (0, 86_400))
    assert time.gmtime(86_400).tm_year == 1970
    assert folder.RunFolder(SmokeParameters(out=str(tmp_path))).set_aside.name == "19700102T000000Z"


def test_a_run_that_has_ended_writes_nothing_where_another_run_has_been(tmp_path):
    asked = SmokeParameters(out=str(tmp_path))
    first = start(asked)
    first.finish("one")
    first.close()
    first.caveat("a cell that runs again")
    first.close()
    second = start(asked)
    second.close()
    with pytest.raises(InputError, match="Another run has used"):
        first.finish("again")
    assert read(tmp_path / "smoke.json").id == second.record.id
