"""One run has one folder: of its own, locked while the run lasts, without anything of an earlier run."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from ivit_helpers.errors import InputError
from ivit_helpers.record import folder
from ivit_helpers.record.parameters import AccuracyParameters, SmokeParameters
from ivit_helpers.record.record import read
from ivit_helpers.record.run import start

ROOT = Path(__file__).parents[2]


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "REPORTS", tmp_path / "reports")
    paths = {folder.RunFolder(SmokeParameters(device="cpu")).path for _ in range(5)}
    assert len(paths) == 5
    assert all(path.parent == tmp_path / "reports" and "-tiny-cpu" in path.name for path in paths)


def test_a_folder_that_a_run_of_another_process_uses_is_refused_until_that_ends(tmp_path):
    hold = (
        "import sys\nfrom ivit_helpers.record.parameters import SmokeParameters\n"
        "from ivit_helpers.record.run import start\n"
        "run = start(SmokeParameters(out=sys.argv[1]))\nprint('begun', flush=True)\nsys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert holder.stdout.readline() == b"begun\n"
        before = read(tmp_path / "smoke.json").id
        with pytest.raises(InputError, match="is used by another run that has not ended"):
            start(SmokeParameters(out=str(tmp_path)))
        assert read(tmp_path / "smoke.json").id == before
        assert folder.is_used(tmp_path)
    finally:
        holder.kill()
        holder.communicate()
    assert not folder.is_used(tmp_path), "a killed run still holds its folder"
    start(SmokeParameters(out=str(tmp_path)))
    assert read(next(tmp_path.rglob("earlier/*/smoke.json"))).id == before


def test_what_an_earlier_run_left_is_moved_aside_by_its_time_and_other_files_stay(tmp_path):
    names = ("smoke.json", "smoke.html", "smoke.ipynb", "accuracy_predictions.csv", "benchmark.json")
    for name in (*names, "notes.txt", "index.html"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (0, 86_400))
    begun = folder.RunFolder(SmokeParameters(out=str(tmp_path)))
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "index.html", "earlier", folder.LOCK}
    assert {path.name for path in begun.set_aside.iterdir()} == set(names)
    assert begun.set_aside.name == "19700102T000000Z"
    begun.close()
    assert not (tmp_path / folder.LOCK).exists()
    assert folder.RunFolder(SmokeParameters(out=str(tmp_path))).set_aside is None


@pytest.mark.parametrize("concluded", [True, False])
def test_answers_of_an_unfinished_run_stay_to_be_resumed(tmp_path, concluded):
    journal = tmp_path / f"accuracy_answers.1-0{folder.JOURNAL}"
    run = start(AccuracyParameters(out=str(tmp_path)))
    journal.write_text("answers")
    if concluded:
        run.finish("")
    run.close()
    start(AccuracyParameters(out=str(tmp_path)))
    assert journal.exists() == (not concluded)


def test_a_cell_that_begins_the_run_again_begins_a_run_of_its_own(tmp_path):
    first = start(SmokeParameters(out=str(tmp_path)))
    second = start(SmokeParameters(out=str(tmp_path)))
    assert first.record.id != second.record.id
    assert read(tmp_path / "smoke.json").id == second.record.id


def test_tables_carry_the_id_and_the_record_their_hash(tmp_path):
    run = start(AccuracyParameters(out=str(tmp_path)))
    run.table("predictions", pd.DataFrame({"a": [1, 2]}))
    content = (tmp_path / "accuracy_predictions.csv").read_bytes()
    assert content.decode() == f"a,run\n1,{run.record.id}\n2,{run.record.id}\n"
    assert read(tmp_path / "accuracy.json").tables == {"accuracy_predictions.csv": hashlib.sha256(content).hexdigest()}


def test_the_check_of_a_folder_leaves_nothing_behind_and_refuses_a_file(tmp_path):
    folder.check_folder(SmokeParameters(out=str(tmp_path / "a" / "b")))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written .Not a directory.: give another folder"):
        folder.check_folder(SmokeParameters(out=str(tmp_path / "file")))


def test_a_run_does_not_move_the_run_that_it_reads(tmp_path):
    with pytest.raises(InputError, match="is in this run's own folder"):
        folder.check_folder(AccuracyParameters(reference=str(tmp_path), out=str(tmp_path)))


def test_a_run_that_has_ended_writes_nothing_where_another_run_has_been(tmp_path):
    first = start(SmokeParameters(out=str(tmp_path)))
    first.finish("one")
    first.close()
    first.caveat("a cell that runs again")
    first.close()
    second = start(SmokeParameters(out=str(tmp_path)))
    second.close()
    with pytest.raises(InputError, match="Another run has used"):
        first.finish("again")
    assert read(tmp_path / "smoke.json").id == second.record.id
