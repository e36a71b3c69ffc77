"""Every process of a launch is accounted for, and none outlives it."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from ivit_helpers.distributed import KILLED, STOPPED, launch

WORK = "tests.work"
ROOT = Path(__file__).parents[1]


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Launch as many processes as there are orders; gives why each of them failed."""
    monkeypatch.syspath_prepend(str(ROOT))

    def run(*orders: str, name: str = "apart", **how: object) -> list[str]:
        settings = tmp_path / f"{name}.json"
        settings.write_text(json.dumps({"folder": str(tmp_path), **dict(enumerate(orders))}))
        return launch(WORK, settings, len(orders), tmp_path / "log", **how)

    return run


def at_work(folder):
    """The processes that name this folder on their command line."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and any(str(folder) in word for word in process.cmdline()):
                found.append(process)
    return found


def test_one_that_loses_its_card_costs_its_own_work_only_and_says_why(started, tmp_path):
    assert started("", "refuse", "") == ["", "card 1 is out:\ncheck it", ""]
    assert sorted(path.name for path in tmp_path.glob("place-*")) == [f"place-{rank}" for rank in range(3)]
    assert (tmp_path / "log").read_text().count("is done\n") == 2


@pytest.mark.parametrize(
    ("order", "name", "reason"),
    [
        ("kill", "apart", KILLED),
        ("raise", "apart", "RuntimeError: a bug"),
        ("refuse", "together", "card 1 is out:\ncheck it"),
    ],
)
def test_one_that_is_killed_or_that_others_wait_for_ends_all(order, name, reason, started):
    assert started("wait", order, name=name) == [STOPPED, reason]


def test_an_interrupt_leaves_no_process_and_none_has_listened_on_the_network(started, tmp_path):
    listening = []

    def interrupt():
        if (tmp_path / "waits").exists():
            sockets = [one for process in at_work(tmp_path) for one in process.net_connections()]
            listening.extend(one for one in sockets if one.status == psutil.CONN_LISTEN)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        started("wait", "", watch=interrupt)
    assert at_work(tmp_path) == []
    assert listening == []


@pytest.mark.parametrize("victim", ["starter", "ivit_helpers.distributed", WORK])
def test_whichever_process_is_killed_nothing_is_left(victim, tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"folder": str(tmp_path), "0": "wait"}))
    line = f"import sys; from pathlib import Path; from ivit_helpers import distributed as d; sys.path.insert(0, {str(ROOT)!r})\n"
    line += f"d.launch({WORK!r}, Path(sys.argv[1], 'settings.json'), 2, Path(sys.argv[1], 'log'))"
    starter = subprocess.Popen([sys.executable, "-c", line, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not (tmp_path / "waits").exists():
        assert starter.poll() is None
    family = at_work(tmp_path)
    chosen = [one for one in family if f"-m {victim} " in " ".join(one.cmdline())]
    (psutil.Process(starter.pid) if victim == "starter" else chosen[-1]).kill()
    starter.wait(90)
    assert psutil.wait_procs(family, 60)[1] == []


@pytest.mark.slow
def test_processes_meet_over_gloo(started, tmp_path):
    assert started("meet", "meet") == ["", ""]
    assert [(tmp_path / f"met-{rank}").read_text() for rank in range(2)] == ["from 0 [0, 1]"] * 2
