"""A machine that is busy with other work is noticed."""

import subprocess
import sys

import psutil
import pytest

from ivit_helpers.measure import conditions


class Machine:
    """Processor times that a test sets, in seconds of all cores together."""

    def __init__(self, monkeypatch, cores=2):
        self.busy = self.own = self.now = 0.0
        monkeypatch.setattr(conditions.os, "cpu_count", lambda: cores)
        monkeypatch.setattr(conditions.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(conditions, "busy_seconds", lambda: self.busy)
        monkeypatch.setattr(conditions, "own_seconds", lambda: self.own)

    def passes(self, seconds, own, others):
        self.now += seconds
        self.own += own
        self.busy += own + others


@pytest.mark.parametrize(("others", "quiet"), [(0.0, True), (1.0, True), (3.0, False), (20.0, False)])
def test_the_share_of_others_decides_whether_the_machine_was_quiet(cpu, monkeypatch, others, quiet):
    machine = Machine(monkeypatch)
    with conditions.watched(cpu) as watch:
        machine.passes(10, own=10, others=others)
    assert watch.conditions.others_cpu_share == pytest.approx(min(1, others / 20))
    assert watch.is_quiet is quiet
    assert str(watch).startswith(f"other processes took {min(1, others / 20):.0%} of all cores' time")


def test_the_work_of_this_process_and_of_those_it_started_is_its_own(cpu):
    before, busy = conditions.own_seconds(), conditions.busy_seconds()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    sum(range(3_000_000))
    assert conditions.own_seconds() > before
    assert conditions.busy_seconds() > busy
    assert psutil.cpu_times().idle > 0
