"""The project's own files agree with each other."""

import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ivit_helpers.record import parameters

ROOT = Path(__file__).parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text()
README = (ROOT / "README.md").read_text()


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


def test_only_the_device_wing_names_torch_npu_or_a_device_type():
    for path in (ROOT / "ivit_helpers").rglob("*.py"):
        naming = re.findall(r"import torch_npu|[=!]= \"(?:npu|cuda|cpu)\"|torch\.(?:npu|cuda)\.", path.read_text())
        assert path.parent.name == "device" or not naming, (path, naming)


def test_everything_the_readme_names_is_there():
    for path in re.findall(r"`((?:ivit_helpers|notebooks|data|tests|reports)/[\w./-]+)`", README):
        assert (ROOT / path).exists(), path
    for kind in parameters.NOTEBOOKS.values():
        for name in kind.model_fields:
            assert f"`{name}`" in README, name


def test_the_data_folder_stays_small():
    assert sum(path.stat().st_size for path in (ROOT / "data").rglob("*") if path.is_file()) < 6_000_000
