"""Writes the list of cases into docs/trust.md: python -m tests.hostile"""

from tests.hostile.table import DOCUMENT, as_markdown

if __name__ == "__main__":
    before, _, _ = DOCUMENT.read_text("utf-8").partition("### ")
    DOCUMENT.write_text(before + as_markdown() + "\n", "utf-8")
