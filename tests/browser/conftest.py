"""A real Chromium, and JupyterLab as `make lab` starts it. Without Chromium every test here is skipped, with the reason."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from nbformat import NotebookNode
from playwright.sync_api import Browser, sync_playwright

from tests.browser.lab import Lab

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WITHOUT_BROWSER = "--no-browser --ip=127.0.0.1 --LabApp.expose_app_in_browser=True" + (
    " --allow-root" if os.geteuid() == 0 else ""
)
NO_NEWS = {"fetchNews": "false", "checkForUpdates": False}
"""JupyterLab's answer to its own question whether it may ask the network"""
MOST = 120_000
"""Milliseconds that JupyterLab may take to open on a busy machine"""


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program; whatever needs it is skipped where it is not."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium, which is not on this machine: apt-get install chromium")
    return CHROMIUM


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    """Chromium without a window."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium)
        yield started
        started.close()


@pytest.fixture(scope="package")
def lab_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The server of `make lab`, on a free port of this machine alone: its address with its token, and the folder that it serves.

    The folder is empty, and none of the user's settings are used or changed.
    """
    own = tmp_path_factory.mktemp("lab")
    served = own / "notebooks"
    served.mkdir()
    environment = {
        name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"
    }  # as a user, with progress bars
    for name in (
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_RUNTIME_DIR",
        "IPYTHONDIR",
    ):
        environment[name] = str(own / name)
    news = own / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text(json.dumps(NO_NEWS))
    line = re.search(r"^lab:.*\n\t(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    for name, value in {
        "$(BIN)": Path(sys.executable).parent,
        "$(ARGS)": WITHOUT_BROWSER,
        "=notebooks": f"={served}",
    }.items():
        assert name in line
        line = line.replace(name, str(value))
    server = subprocess.Popen(shlex.split(line), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    said = []
    for text in server.stderr:
        said.append(text)
        if address := re.search(r"(http://127\.0\.0\.1:\d+/lab)(/tree/README\.ipynb)?(\?token=\w+)", text):
            break
    else:
        pytest.fail("JupyterLab did not start:\n" + "".join(said))
    reader = Thread(target=server.stderr.read)  # so that it never waits for somebody to read
    reader.start()
    yield address[1] + address[3], served
    server.terminate()
    reader.join()
    server.wait()
    server.stderr.close()


@pytest.fixture(scope="package")
def lab(browser: Browser, lab_address: tuple[str, Path]) -> Iterator[Lab]:
    """JupyterLab, open in a page."""
    address, served = lab_address
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(MOST)
    page = context.new_page()
    page.goto(address)
    yield Lab(page, served)
    context.close()


@pytest.fixture(scope="package")
def run_all(lab: Lab) -> Callable[..., NotebookNode]:
    """Open a notebook of the project in JupyterLab, with parameters typed into its parameters cell, and run all its cells.

    Gives the notebook with what it showed; `lab.page` is at it.
    """

    def run(name: str, **given: Any) -> NotebookNode:
        lab.open(name, **given)
        return lab.run_all()

    return run
