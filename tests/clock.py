"""A clock that tests set."""

import itertools

from ivit_helpers.measure import timing


class Clock:
    """Time that passes only while an implementation computes."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def implementation(self, seconds):
        """One whose n-th call (counted from 0) takes `seconds(n)`."""
        calls = itertools.count()

        def forward(pixels):
            self.now += seconds(next(calls))

        return forward
