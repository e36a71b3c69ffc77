"""The index lists what is there, whatever else lies beside it, and takes its verdicts from the checks."""

import json
import os
import re

import pytest

from ivit_helpers.record import SmokeParameters, start
from ivit_helpers.record.record import RAN_TO_ITS_END
from ivit_helpers.report import page

PASSED = {"name": "it ran", "status": "passed", "detail": "", "deciding": True}
JUDGED = {"name": RAN_TO_ITS_END, "status": "passed", "detail": "all ran"}


def left(folder, **parts):
    """What a run leaves: its record, with these contents besides, and its page."""
    folder.mkdir(parents=True)
    record = {"schema": 2, "notebook": "smoke", "started": "2026-01-02T03:04:05+00:00", "concluded": True, "checks": [PASSED], **parts}
    (folder / "smoke.json").write_text(json.dumps(record))
    (folder / "smoke.html").write_text("page")


def rows(root):
    """The text of each row of the index."""
    html = page.write_index(root).read_text()
    found = re.findall(r"<tr>\n(.*?)</tr>", html.partition("<tbody>")[2], re.DOTALL)
    return [" ".join(re.sub("<[^>]*>", " ", row).split()) for row in found]


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ({}, "Passed"),
        ({"batch": True, "checks": [PASSED, JUDGED]}, "Passed"),
        ({"batch": True}, "Did not finish: the command that ran it ended early"),
        ({"concluded": False}, "Did not finish: it has not reached its conclusion"),
        ({"concluded": False, "status": "passed"}, "Did not finish"),
        ({"checks": [PASSED | {"status": "failed", "detail": "off by 3"}], "status": "passed"}, "Failed: it ran: off by 3"),
        ({"checks": [PASSED, JUDGED | {"status": "failed", "detail": "killed"}], "status": "passed"}, "Did not finish: killed"),
        ({"checks": []}, "Failed: no check was made"),
    ],
)
def test_a_verdict_follows_from_the_checks_and_not_from_a_word_in_the_file(tmp_path, parts, verdict):
    left(tmp_path / "run", **parts)
    assert verdict in rows(tmp_path)[0]


def test_strange_neighbours_cost_nothing(tmp_path):
    left(tmp_path / "sound")
    left(tmp_path / os.fsdecode(b"n\xffme"))
    left(tmp_path / 'quo"te <b>')
    for name, content in {"words": '"smoke"', "deep": "[" * 100_000, "half": '{"schema": 2, "note', "zeros": "\0" * 1000}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "smoke.json").write_text(content)
    (tmp_path / "folder" / "smoke.json").mkdir(parents=True)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "smoke.json")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    html = page.write_index(tmp_path).read_text()
    assert 'href="sound/smoke.html"' in html
    assert 'href="n%FFme/smoke.html"' in html
    assert "<b>" not in html
    assert html.count("The record cannot be read.") == 4
    assert len(rows(tmp_path)) == 7


def test_what_a_record_says_is_text_in_the_index(tmp_path):
    left(tmp_path / "run", headline="<script>alert(1)</script>", caveats=["<img src=x>"], parameters={"model": "<i>"})
    html = page.write_index(tmp_path).read_text()
    assert "&lt;script&gt;" in html
    assert "<script" not in html
    assert "<img" not in html


def test_a_run_that_has_not_ended_is_shown_as_running(tmp_path):
    run = start(SmokeParameters(out=str(tmp_path / "run")))
    assert "It is still running" in rows(tmp_path)[0]
    run.close()
    assert "It is still running" not in rows(tmp_path)[0]
    assert "Did not finish" in rows(tmp_path)[0]


def test_both_pages_allow_nothing_but_their_own_styles_and_pictures(tmp_path):
    html = page.write_index(tmp_path).read_text()
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in html
    assert policy in (page.TEMPLATE / "report.html.j2").read_text()
