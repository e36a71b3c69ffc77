"""What a page looks like, measured in the browser: each function gives what is wrong, in words, and an empty list where nothing is."""

from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

SCRIPT = (Path(__file__).parent / "measured.js").read_text("utf-8").partition("\n")[2].strip()
LONGEST = 16
"""Letters of a word that fits into any column"""


def ask(page: Page, function: str, given: Any = None) -> Any:
    """What a function of measured.js answers."""
    return page.evaluate(f"given => ({SCRIPT}).{function}(given)", given)


def unfold(page: Page) -> None:
    """Open every fold."""
    ask(page, "unfold")


def cut(page: Page, root: str = "body", longest: int = LONGEST) -> list[str]:
    """What does not fit: an element with more than it shows, a word of up to `longest` letters on two lines, text beside its cell."""
    found: list[str] = ask(page, "cut", {"root": root, "longest": longest})
    return found


def faint(page: Page, root: str = "body") -> list[str]:
    """Text below the contrast of WCAG AA, 4.5 to 1 (large text 3 to 1), and marks of figures below 3 to 1."""
    found: list[str] = ask(page, "faint", root)
    return found


def violations(page: Page) -> list[str]:
    """What axe-core finds."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['help']}: {node['html'][:120]}" for one in found for node in one["nodes"]]
