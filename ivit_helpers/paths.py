"""Where the project's own folders are."""

from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
DATA = _ROOT / "data"
NOTEBOOKS = _ROOT / "notebooks"
REPORTS = _ROOT / "reports"
