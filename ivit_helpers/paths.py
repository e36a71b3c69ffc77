"""Where the project's own folders are, and paths that a user gives."""

from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
DATA = _ROOT / "data"
NOTEBOOKS = _ROOT / "notebooks"
REPORTS = _ROOT / "reports"


def printable(name: str) -> str:
    """A file name as it can be written and shown: bytes that are not UTF-8 are written in hexadecimal."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
