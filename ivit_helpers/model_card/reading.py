"""What the card reads in records: outcomes of checks, versions, files, values in words."""

from collections.abc import Sequence

from ivit_helpers.device.device import Device
from ivit_helpers.device.selection import kind_named
from ivit_helpers.record.record import ModelRecord
from ivit_helpers.report.table import facts

ON_DEVICE = "every operator runs on the device"
PACKAGES = ("torch", "torch-npu", "transformers", "timm", "safetensors", "numpy", "pillow", "cann")


def status_of(records: Sequence[ModelRecord], check: str) -> str:
    """The worst outcome of a check in some records, or "missing"."""
    found = {one.status for record in records for one in record.checks if one.name == check}
    return next((status for status in ("failed", "skipped", "passed") if status in found), "missing")


def kinds(records: Sequence[ModelRecord]) -> list[type[Device]]:
    """The kinds of device of some records, each once; without kinds that are not known here."""
    names = dict.fromkeys(str(record.environment.get("device_type", "")) for record in records)
    return [kind for name in names if (kind := kind_named(name))]


def packages(record: ModelRecord) -> dict[str, str]:
    """The versions that a run names."""
    return {name: str(record.environment[name]) for name in PACKAGES if name in record.environment}


def files(record: ModelRecord) -> list[str]:
    """What a run leaves in its folder."""
    return [f"{record.notebook}.ipynb", f"{record.notebook}.html", f"{record.notebook}.json", *record.tables]


def readable(name: str, value: object) -> str:
    """A value of a record with its unit, which its name gives."""
    return next(iter(facts({name: value}).pairs.values()))
