"""Count the lines of the package and of its tests, and fail above the budget in pyproject.toml: `python tools/account.py`.

Every file of the package counts, templates and blank lines included, and all Python of the tests. Size is a feature
here: what is added pays with lines that go elsewhere.
"""

import re
import sys
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parent.parent
BUDGET = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["account"]
FUNCTION = re.compile(r"^\s*(?:async )?def ", re.MULTILINE)


def texts(folder: Path, pattern: str = "*") -> list[str]:
    """The contents of the files below a folder, without what Python leaves there."""
    return [path.read_text() for path in folder.rglob(pattern) if path.is_file() and "__pycache__" not in path.parts]


def lines(folder: Path, pattern: str = "*") -> int:
    """The lines of the files below a folder."""
    return sum(text.count("\n") for text in texts(folder, pattern))


def main() -> None:
    """Print the account; exit with 1 above the budget."""
    package, tests = ROOT / "ivit_helpers", ROOT / "tests"
    wings = {wing.name: lines(wing) for wing in sorted(package.iterdir()) if wing.is_dir() and any(wing.glob("*.py"))}
    spent = {
        "lines": lines(package),
        "functions": sum(len(FUNCTION.findall(text)) for text in texts(package)),
        "test_lines": lines(tests, "*.py"),
        "columns": max(len(line) for text in texts(package) for line in text.splitlines()),
    }
    print("  ".join(f"{wing} {count:,}" for wing, count in wings.items()))
    for name, most in BUDGET.items():
        print(f"{name.replace('_', ' ')}: {spent[name]:,} of at most {most:,}")
    over = [name.replace("_", " ") for name, most in BUDGET.items() if spent[name] > most]
    if over:
        sys.exit(
            f"Over the budget of pyproject.toml: {', '.join(over)}. Take something out before you put something in."
        )


if __name__ == "__main__":
    main()
