"""Cases: weight files, heads and configurations."""

from pathlib import Path
from typing import Any

from tests.hostile.case import Case


def empty_folder(folder: Path) -> dict[str, Any]:
    (folder / "model").mkdir()
    return {"model": folder / "model"}


CASES = [
    Case("an empty folder in place of a model", empty_folder, r"has no config\.json", "smoke"),
]
