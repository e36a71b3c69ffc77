"""Every process of a launch is accounted for, and none outlives it."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from ivit_helpers.cards.launching import Ended, launch

WORK = "tests.cards.work"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Launch as many processes as are told something; gives how each ended."""
    monkeypatch.syspath_prepend(str(ROOT))

    def run(*told: str, **how: object) -> list[Ended]:
        settings = tmp_path / "settings.json"
        settings.write_text(
            json.dumps({"folder": str(tmp_path), **{str(rank): word for rank, word in enumerate(told)}})
        )
        return launch(WORK, settings, len(told), tmp_path / "cards", **how)

    return run


def at_work(folder):
    """The processes that name this folder on their command line."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and any(str(folder) in word for word in process.cmdline()):
                found.append(process)
    return found


def test_one_that_fails_costs_its_own_work_only_and_says_why(started, tmp_path):
    ended = started("", "refuse", "kill", "raise")
    assert ended == [
        Ended(0, 0, ""),
        Ended(1, 3, "card 1 is out: check it"),
        Ended(2, -signal.SIGKILL, "it was killed by SIGKILL, most often by the system to free memory"),
        Ended(3, 1, "RuntimeError: a bug"),
    ]
    assert sorted(path.name for path in tmp_path.glob("place-*")) == [f"place-{rank}" for rank in range(4)]
    assert (tmp_path / "cards-0.log").read_text() == "process 0 is done\n"


def test_processes_that_need_each_other_end_together(started):
    first, second = started("wait", "refuse", together=True)
    assert (first.reason, second.reason) == ("it was stopped by SIGTERM", "card 1 is out: check it")


def test_an_interrupt_leaves_no_process_and_none_has_listened_on_the_network(started, tmp_path):
    listening = []

    def interrupt():
        if (tmp_path / "waits").exists():
            listening.extend(
                one
                for process in at_work(tmp_path)
                for one in process.net_connections()
                if one.status == psutil.CONN_LISTEN
            )
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        started("wait", "", watch=interrupt)
    assert at_work(tmp_path) == []
    assert listening == []


@pytest.mark.parametrize("killed", ["starter", "torchrun", "cards.process"])
def test_whichever_process_is_killed_nothing_is_left(killed, tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"folder": str(tmp_path), "0": "wait"}))
    line = f"import sys; from pathlib import Path; from ivit_helpers.cards.launching import launch; sys.path.insert(0, {str(ROOT)!r})\n"
    line += f"launch({WORK!r}, Path(sys.argv[1], 'settings.json'), 2, Path(sys.argv[1], 'cards'))"
    starter = subprocess.Popen([sys.executable, "-c", line, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not (tmp_path / "waits").exists():
        assert starter.poll() is None
    chosen = next(
        process for process in at_work(tmp_path) if killed in " ".join(process.cmdline()) or killed == "starter"
    )
    family = at_work(tmp_path)
    (psutil.Process(starter.pid) if killed == "starter" else chosen).kill()
    starter.wait(90)
    left = psutil.wait_procs(family, 60)[1]
    for process in left:
        process.kill()
    assert left == []


@pytest.mark.slow
def test_processes_meet_over_gloo(started, tmp_path):
    assert [ended.reason for ended in started("meet", "meet")] == ["", ""]
    assert [(tmp_path / f"met-{rank}").read_text() for rank in range(2)] == ["from 0 [0, 1]"] * 2
