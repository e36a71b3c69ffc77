"""The project's own files agree with each other."""

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

from ivit_helpers.__main__ import main
from ivit_helpers.record import parameters

ROOT = Path(__file__).parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text()
README = (ROOT / "README.md").read_text()
PAGES = {path.name: path.read_text("utf-8") for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]}
COMMANDS = sorted(
    {
        line.split("  #")[0].strip()
        for text in PAGES.values()
        for line in re.findall(r"^    (ivit .*)$", text, re.MULTILINE)
    }
)


def listed(name):
    block = re.search(rf"^{name} = \[(.*?)\]", PYPROJECT, re.MULTILINE | re.DOTALL).group(1)
    return [Requirement(text) for text in re.findall(r'"([^"]+)"', block)]


def test_the_constraints_satisfy_every_range():
    exact = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    exact = {name.lower().replace("_", "-"): version for name, version in exact.items()}
    for requirement in listed("dependencies") + listed("dev"):
        assert exact[requirement.name.lower()] in requirement.specifier, requirement
    assert exact["torch"] == "2.13.0"


def test_the_conda_environment_installs_this_project_and_repeats_nothing():
    lines = [line.strip() for line in (ROOT / "environment.yml").read_text().splitlines() if not line.startswith("#")]
    installed = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    assert installed == ["conda-forge", "python=3.11", "pip", "pip:", "-e .[npu]"]
    assert "npu" in re.findall(r"^(\w+) = \[", PYPROJECT, re.MULTILINE)


@pytest.mark.parametrize("name", parameters.NOTEBOOKS)
def test_a_notebook_is_stored_without_outputs_and_defines_nothing(name):
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert 10 <= len(code) <= 14
    assert not any(re.search(r"^\s*(def|class) ", "".join(cell["source"]), re.MULTILINE) for cell in code)


def test_the_start_page_of_make_lab_asks_every_notebook_s_question_and_links_to_it():
    [cell] = json.loads((ROOT / "notebooks" / "README.ipynb").read_text())["cells"]
    assert "--LabApp.default_url=/lab/tree/README.ipynb" in (ROOT / "Makefile").read_text()
    for name in parameters.NOTEBOOKS:
        assert f"| **[{name}]({name}.ipynb)** | {parameters.question(name)} |" in "".join(cell["source"])


def test_only_the_device_wing_names_torch_npu_or_a_device_type():
    for path in (ROOT / "ivit_helpers").rglob("*.py"):
        naming = re.findall(r"import torch_npu|[=!]= \"(?:npu|cuda|cpu)\"|torch\.(?:npu|cuda)\.", path.read_text())
        assert path.parent.name == "device" or not naming, (path, naming)


def test_everything_that_the_documents_name_is_there():
    for page, text in PAGES.items():
        for path in re.findall(r"`((?:ivit_helpers|notebooks|data|tests|reports|docs|tools)/[\w./-]+)`", text):
            assert (ROOT / path).exists() or "NAME" in path or path == "reports/index.html", (page, path)
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert any((folder / link).exists() for folder in (ROOT, ROOT / "docs")), (page, link)


def test_every_parameter_is_described():
    for kind in parameters.NOTEBOOKS.values():
        for name in kind.model_fields:
            assert f"`{name}`" in PAGES["parameters.md"], name


def test_the_readme_is_read_in_one_sitting():
    assert len(README.splitlines()) <= 120
    assert len(PAGES["README.zh.md"].splitlines()) <= 120


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_documents_is_one_that_the_program_takes(command):
    """Bad input would end with 2 before anything starts; the runs themselves are other tests' business."""
    program, verb, *words = shlex.split(command)
    options = [words[place + 1] for place, word in enumerate(words) if word == "-p"]
    names = [word for word in words if word in parameters.MODEL_NOTEBOOKS]
    known = CliRunner().invoke(main, [verb, "--help"])
    assert program == "ivit"
    assert known.exit_code == 0
    assert all(word in known.output for word in words if word.startswith("--"))
    if verb in {"run", "check"}:
        parameters.share_out(names or list(parameters.MODEL_NOTEBOOKS), parameters.parse(options))


def test_the_data_folder_stays_small():
    assert sum(path.stat().st_size for path in (ROOT / "data").rglob("*") if path.is_file()) < 6_000_000
