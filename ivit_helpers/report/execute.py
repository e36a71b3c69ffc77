"""Run notebooks through papermill and judge how they ended.

What papermill says of a run is not enough: after a killed kernel, a timeout or sys.exit() its notebook looks complete. A run has
finished when every code cell was executed, no cell shows an error, and its record says so.
"""

import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import nbformat
import psutil
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode

from ivit_helpers.device.selection import batch_environment
from ivit_helpers.errors import ChecksFailed, InputError, describe_error
from ivit_helpers.paths import NOTEBOOKS
from ivit_helpers.record.parameters import AnyParameters
from ivit_helpers.record.record import RAN_TO_ITS_END, AnyRecord, read, write
from ivit_helpers.record.rows import Check
from ivit_helpers.record.run import RUN_ID, new_id, new_record
from ivit_helpers.report.ending import Stop
from ivit_helpers.report.page import write_report
from ivit_helpers.report.progress import ProgressLines
from ivit_helpers.report.session import RENDERED_LATER

SOCKETS = "ivit-"
"""Begins the name of a folder with the sockets of a kernel; the process that started it follows"""


class OwnKernelManager(AsyncKernelManager):
    """Starts a kernel of this very Python, whatever the notebook's metadata and the user's kernelspecs say.

    It talks over sockets in a folder of its own, which other users of a shared server cannot listen to.
    """

    stop: ClassVar[Stop]
    run_id: ClassVar[str]

    def __init__(self, **settings: Any) -> None:
        remove_sockets_of_killed_runs()
        folder = tempfile.mkdtemp(prefix=f"{SOCKETS}{os.getpid()}-")  # readable by this user alone
        super().__init__(**{"transport": "ipc", "ip": f"{folder}/kernel", **settings})
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    async def _async_pre_start_kernel(self, **settings: Any) -> Any:
        if self.stop.signal is not None:
            raise RuntimeError("it was stopped before its kernel started")
        return await super()._async_pre_start_kernel(**settings)

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            display_name="Python 3",
            language="python",
            env={name: os.environ.get(name, value) for name, value in batch_environment().items()}
            | {RENDERED_LATER: "1", RUN_ID: self.run_id},
        )


def remove_sockets_of_killed_runs() -> None:
    """Remove the socket folders of this user's runs that were killed before they could do it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SOCKETS}*-*"):
        number = folder.name.removeprefix(SOCKETS).partition("-")[0]
        if (
            number.isdecimal()
            and not psutil.pid_exists(int(number))
            and folder.is_dir()
            and folder.stat().st_uid == os.getuid()
        ):
            shutil.rmtree(folder, ignore_errors=True)


def execute(
    name: str, parameters: AnyParameters, folder: Path, stop: Stop, run_id: str, cell_timeout: int | None = None
) -> str:
    """Execute one notebook into `folder`; returns why it stopped early, or an empty string.

    run_id: the id that its record gets. cell_timeout: seconds that one cell may take; None for no limit.
    """
    import papermill  # takes a second, which kernels that import this wing are spared
    from nbclient.exceptions import CellTimeoutError
    from papermill.exceptions import PapermillExecutionError

    folder.mkdir(parents=True, exist_ok=True)
    # papermill formats braces in its output path.
    target = str(folder / f"{name}.ipynb").replace("{", "{{").replace("}", "}}")
    manager = type("StoppableKernelManager", (OwnKernelManager,), {"stop": stop, "run_id": run_id})
    try:
        papermill.execute_notebook(
            str(NOTEBOOKS / f"{name}.ipynb"), target,
            parameters=parameters.model_dump(exclude_unset=True) | {"out": str(folder)},
            kernel_name="python3", kernel_manager_class=manager,
            progress_bar=False, stderr_file=ProgressLines(sys.stderr), start_timeout=600, execution_timeout=cell_timeout,
        )  # fmt: skip
    except PapermillExecutionError as error:
        if error.ename == ChecksFailed.__name__:
            return ""  # the record says so
        return f"{error.ename}: {error.evalue}" if error.ename != InputError.__name__ else str(error.evalue)
    except CellTimeoutError:
        return f"one cell took longer than {cell_timeout:,} s; --cell-timeout SECONDS allows it more"
    except Exception as error:  # a dead kernel, a full disk: papermill and jupyter_client raise many kinds
        return describe_error(error)
    return ""


def unfinished(notebook: NotebookNode) -> list[int]:
    """Which code cells (counted from 1) were never executed; the only trace that a dead kernel leaves."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [number for number, cell in enumerate(code, 1) if cell.source.strip() and cell.execution_count is None]


def judge(name: str, folder: Path, stopped: str, given: Mapping[str, Any], run_id: str) -> AnyRecord:
    """Bring the record of an executed notebook in line with how the notebook ended, and write it. No other run's record counts."""
    found = _record_of(run_id, folder / f"{name}.json")
    if found is None:
        found = new_record(name, given, run_id)
        stopped = stopped or "it left no record"
    notebook = _executed(name, folder)
    missing = unfinished(notebook)
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    if not stopped and missing:
        stopped = "the kernel ended by itself"
    reason = f"{stopped.rstrip('.')}; " if stopped else ""
    if missing:
        reason += f"{len(missing)} of {total} code cells did not run."
    elif stopped:
        reason += f"all {total} code cells were started."
    if reason and found.resume and found.resume not in reason:
        reason += f" Go on with: {found.resume}"
    check = Check(
        name=RAN_TO_ITS_END, status="failed" if reason else "passed", detail=reason or f"all {total} code cells ran"
    )
    found.checks = [*(old for old in found.checks if old.name != RAN_TO_ITS_END), check]
    write(found, folder / f"{name}.json")
    return found


def _record_of(run_id: str, path: Path) -> AnyRecord | None:
    try:
        found = read(path)
    except InputError:
        return None
    return found if found.id == run_id else None


def _executed(name: str, folder: Path) -> NotebookNode:
    path = folder / f"{name}.ipynb"
    return nbformat.read(path if path.exists() else NOTEBOOKS / f"{name}.ipynb", as_version=4)


def run_notebook(
    name: str, parameters: AnyParameters, folder: Path, stop: Stop, cell_timeout: int | None = None
) -> AnyRecord:
    """One notebook from parameters to HTML: execute, judge, render, and bring the index up to date.

    folder: of this run alone. stop: of the `stoppable` block around this call. A run that a signal ends leaves the page of what there
    was. Raises InputError where the folder cannot be written.
    """
    run_id = new_id()
    ended = execute(name, parameters, folder, stop, run_id, cell_timeout)
    found = judge(name, folder, stop.reason or ended, parameters.model_dump(), run_id)
    write_report(found, _executed(name, folder), folder / f"{name}.html")
    return found
