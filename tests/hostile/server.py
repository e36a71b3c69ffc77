"""A process that has imported everything and runs each case in a fork of itself, under a limit of memory and of time.

It reads one job a line, {"case", "folder", "report"}, and answers {"ended": exit code or minus the signal, "peak_gib"}.
"""

import importlib
import io
import json
import os
import resource
import signal
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import psutil

from ivit_helpers.__main__ import main
from ivit_helpers.errors import InputError
from tests.hostile import table
from tests.hostile.case import Case
from tests.notebook import executed

GIB = 2**30


def refused(case: Case, given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What `ivit run` says, and whether it began a run."""
    out = Path(given.pop("out", folder / "run"))
    words = [f"-p{name}={value}" for name, value in given.items()]
    before = set(folder.iterdir())
    try:
        main(["run", case.notebook, *words, "--out", str(out)], standalone_mode=True)
    except SystemExit as stopped:
        began = [str(path) for path in set(folder.iterdir()) - before]
        return {"code": stopped.code, "began": began}
    return {"code": None, "began": []}


def answered(case: Case, given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The record that the notebook's cells leave."""
    out = folder / "run"
    try:
        executed(case.notebook, **{"out": str(out), "device": "cpu", "dtype": "float32", **given})
    except InputError as error:
        print(error)
    record = json.loads((out / f"{case.notebook}.json").read_text())
    return {"status": record["status"], "record": json.dumps(record, ensure_ascii=False)}


def run(case: Case, folder: Path) -> dict[str, Any]:
    """One case from input to answer."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            given = {
                name: str(value) if isinstance(value, Path) else value for name, value in case.make(folder).items()
            }
            found = (refused if case.ends == "refused" else answered)(case, given, folder)
        except BaseException:
            found = {"traceback": traceback.format_exc()}
    return found | {"said": said.getvalue()}


def limited(case: Case) -> None:
    """Bound what this process may allocate and compute from here on."""
    data = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmData")
    )
    most = data + int(case.gib * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (int(case.seconds), int(case.seconds) + 1))
    signal.alarm(int(6 * case.seconds))  # a hang takes no processor time


def job(case: Case, folder: Path, report: Path) -> dict[str, Any]:
    """Run a case in a fork."""
    child = os.fork()
    if child == 0:
        limited(case)
        report.write_text(json.dumps(run(case, folder)))
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    mine = psutil.Process().memory_info().rss
    return {"ended": os.waitstatus_to_exitcode(status), "peak_gib": max(0, used.ru_maxrss * 1024 - mine) / GIB}


if __name__ == "__main__":
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = (
        "system"  # pyarrow's own allocator reserves 1 GiB ahead, which no case may
    )
    for name in (
        "ivit_helpers.smoke",
        "ivit_helpers.benchmark",
        "ivit_helpers.accuracy",
        "ivit_helpers.report",
        "ivit_helpers.device",
        "pyarrow.parquet",
        "matplotlib.pyplot",
        "IPython",
    ):
        importlib.import_module(name)
    CASES = {case.name: case for case in table.CASES}
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(job(CASES[asked["case"]], Path(asked["folder"]), Path(asked["report"]))), flush=True)
