"""Which operators one forward pass runs, how often and where, and which of them the device lacks."""

from collections.abc import Mapping

from ivit_helpers.measure.launches import Audit, audited
from ivit_helpers.report.table import NOTHING, Table

__all__ = ["Audit", "audited", "operators_table"]


def operators_table(calls: Mapping[tuple[str, str], int], notes: Mapping[str, str]) -> Table:
    """Operators, most called first; those that failed or fell back are on top, with a note."""
    rows = [
        {
            "operator": name,
            "calls": str(count),
            "where": where,
            "kind": "fused" if Audit.is_fused(name) else "plain",
            "note": notes.get(name, ""),
        }
        for (name, where), count in sorted(calls.items(), key=lambda item: (item[0][0] not in notes, -item[1]))
    ]
    called = {name for name, _ in calls}
    missed = [
        {"operator": name, "calls": NOTHING, "where": NOTHING, "kind": NOTHING, "note": note}
        for name, note in notes.items()
        if name not in called
    ]
    return Table(
        [*missed, *rows],
        "One forward pass of one image; views compute nothing and are left out, a reshape that copies is not",
    )
