"""Cases: image sets, archives and label files."""

from pathlib import Path
from typing import Any

from PIL import Image

from tests.hostile.case import Case


def random_model(**given: Any) -> dict[str, Any]:
    return {"model": "random:tiny-224", "batch_size": 4, "workers": 0, **given}


def only_text(folder: Path) -> dict[str, Any]:
    (folder / "set" / "cat").mkdir(parents=True)
    (folder / "set" / "cat" / "a.txt").write_text("no image")
    return {"model": "tiny", "data": folder / "set"}


def one_truncated(folder: Path) -> dict[str, Any]:
    (folder / "set" / "class 1").mkdir(parents=True)
    for name in "abc":
        Image.new("RGB", (40, 40), "red" if name == "a" else "blue").save(folder / "set" / "class 1" / f"{name}.png")
    whole = (folder / "set" / "class 1" / "c.png").read_bytes()
    (folder / "set" / "class 1" / "c.png").write_bytes(whole[:60])
    return random_model(data=str(folder / "set"))


CASES = [
    Case("a class folder without images", only_text, "holds no class folders with images"),
    Case("one image of three ends early", one_truncated, "1 unreadable, missing or non-finite", ends="failed"),
]
