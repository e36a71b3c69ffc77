"""All cases, in the order of the document that lists them."""

from pathlib import Path

from tests.hostile import images, paths
from tests.hostile.case import Case

SECTIONS = {
    "Paths, values, references": paths.CASES,
    "Images and labels": images.CASES,
}
DOCUMENT = Path(__file__).parents[2] / "docs" / "trust.md"
CASES = [case for cases in SECTIONS.values() for case in cases]
ENDS = {
    "refused": "refused",
    "failed": "red: a check failed",
    "incomplete": "red: did not finish",
    "not_judged": "amber: not judged",
    "passed": "green",
}


def _line(case: Case) -> str:
    return f"| {case.name[0].upper()}{case.name[1:]} | {ENDS[case.ends]} |"


def as_markdown() -> str:
    """The cases as docs/trust.md lists them."""
    parts = [
        f"### {title}\n\n| given | ends |\n|---|---|\n" + "\n".join(map(_line, cases))
        for title, cases in SECTIONS.items()
    ]
    return "\n\n".join(parts)
