"""Progress bars without a terminal."""

import io
import os

from ivit_helpers.report import progress
from ivit_helpers.report.progress import ProgressLines


def written(pieces, seconds_apart, monkeypatch, terminal=False):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    lines = ProgressLines(stream)
    for piece in pieces:
        now[0] += seconds_apart
        lines.write(piece)
    return stream.getvalue()


BAR = [f"\r{10 * n}%|{'#' * n}" for n in range(1, 11)]


def test_a_bar_becomes_a_line_every_ten_seconds_without_carriage_returns(monkeypatch):
    text = written(BAR, 5, monkeypatch)
    assert text.splitlines() == [line.strip("\r") for line in BAR[1::2]]
    assert "\r" not in text


def test_a_short_bar_leaves_nothing(monkeypatch):
    assert written([*BAR, "\r          \r"], 0.1, monkeypatch) == ""


def test_other_lines_are_passed_on_at_once(monkeypatch):
    assert written(["a warn", "ing\nand ", "more\n"], 0, monkeypatch) == "a warning\nand more\n"


def test_a_terminal_gets_what_was_written(monkeypatch):
    assert written(BAR, 5, monkeypatch, terminal=True) == "".join(BAR)


def test_a_reader_who_has_gone_does_not_end_what_is_written():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        lines = ProgressLines(stream)
        lines.write("first\n")
        lines.write("second\n")
        progress.tell("third\n", stream)
