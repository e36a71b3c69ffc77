"""Prints the table of cases that docs/trust.md holds: python -m tests.hostile"""

from tests.hostile.table import as_markdown

if __name__ == "__main__":
    print(as_markdown())
