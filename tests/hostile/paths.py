"""Cases: paths, parameter values, and what else is in the folders."""

from pathlib import Path
from typing import Any

from tests.hostile.case import Case


def out_is_a_file(folder: Path) -> dict[str, Any]:
    (folder / "report").write_text("mine")
    return {"model": "tiny", "out": folder / "report"}


CASES = [
    Case("the output folder is a file", out_is_a_file, "is a file", "smoke"),
]
