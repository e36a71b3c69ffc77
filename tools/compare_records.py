"""Compare the records and predictions of two runs field by field, without the fields that are times, memory or the machine's state.

    python tools/compare_records.py OLD_FOLDER NEW_FOLDER

Prints each difference and exits with 1 where there is one. A field that is null and a field that is absent are the same.
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTEBOOKS = ("smoke", "benchmark", "accuracy")
VARIES = frozenset({
    "started", "seconds", "headline", "out", "load_seconds", "load_host_peak_bytes", "load_device_peak_bytes", "first_call_s",
    "images_per_s", "ms_per_image",
    "latency_ms", "tflops", "samples_ms", "peak_memory_bytes", "memory", "share_of_measured_matmul", "share_of_vendor_peak",
    "ratio", "batch_seconds", "waited_s", "whole_s", "detail", "host",
})  # fmt: skip


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of every number, text and truth value that does not vary from run to run."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name not in VARIES:
                yield from leaves(item, f"{path}.{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}[{number}]")
    elif value is not None:
        yield path, value


def contents(folder: Path) -> dict[str, Any]:
    """Everything that is compared of a run."""
    found = {}
    for name in NOTEBOOKS:
        found |= leaves(json.loads((folder / f"{name}.json").read_text()), name)
    with (folder / "accuracy_predictions.csv").open() as file:
        for row in csv.DictReader(file):
            found |= {f"predictions {row['id']}.{column}": value for column, value in row.items() if column != "path"}
    return found


def main() -> None:
    """Compare the two folders of the command line."""
    old, new = (contents(Path(folder)) for folder in sys.argv[1:])
    different = [name for name in old | new if old.get(name) != new.get(name)]
    for name in different:
        print(f"{name}: {old.get(name)!r} -> {new.get(name)!r}")
    print(f"{len(old | new) - len(different):,} of {len(old | new):,} fields are equal")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
