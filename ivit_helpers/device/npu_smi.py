"""What npu-smi says of a card, from its key-value forms. An absent tool, field or permission is an absent value, never an error."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence

# Field of the record -> the forms to ask, and the keys that versions of the tool have used for it.
FIELDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "npu_smi_memory_mb": ("memory", ("HBM Capacity(MB)", "DDR Capacity(MB)")),
    "npu_power_w": ("power", ("NPU Real-time Power(W)", "Power Dissipation(W)")),
    "npu_temperature_c": ("temp", ("NPU Temperature (C)", "NPU Temperature(C)", "Temperature(C)")),
    "npu_utilisation_percent": ("usages", ("Aicore Usage Rate(%)",)),
    "npu_firmware": ("board", ("Firmware Version",)),
    "npu_health": ("health", ("Health Status", "Health")),
}


def _asked(*arguments: str) -> str:
    """What npu-smi prints; empty where there is no such tool or it fails."""
    try:
        done = subprocess.run(["npu-smi", *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def pairs(text: str) -> dict[str, str]:
    """The `key : value` lines; spaces around and within keys vary from version to version, so they are evened out."""
    found = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and value.strip():
            found[re.sub(r"\s+", " ", key).strip().replace(" (", "(")] = value.strip()
    return found


def cards(text: str) -> list[tuple[str, str]]:
    """(NPU id, chip id) in the order of logical numbers, from `npu-smi info -m`; management chips have no logical number."""
    rows = [re.match(r"\s*(\d+)\s+(\d+)\s+(\d+)\s", line + " ") for line in text.splitlines()]
    found = sorted((int(row.group(3)), row.group(1), row.group(2)) for row in rows if row)
    return [(npu, chip) for _, npu, chip in found]


def processes(index: int) -> list[str] | None:
    """Processes on a card by its logical number, without this one; None where npu-smi does not list them.

    They are in the second table of `npu-smi info`, a row each: | NPU chip | process id | name | memory (MB) |.
    """
    listed, text = cards(_asked("info", "-m")), _asked("info")
    if index >= len(listed) or "Process id" not in text:
        return None
    found = []
    for line in text[text.index("Process id") :].splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if (
            len(cells) == 4
            and tuple(cells[0].split()) == listed[index]
            and cells[1].isdecimal()
            and int(cells[1]) != os.getpid()
        ):
            found.append(f"{cells[1]}, {cells[2]}, {cells[3]} MB")
    return found


def of_card(index: int, wanted: Sequence[str] = tuple(FIELDS)) -> dict[str, str]:
    """Memory, power, temperature, utilisation, firmware and health of a card by its logical number; absent values are left out."""
    listed = cards(_asked("info", "-m"))
    if index >= len(listed):
        return {}
    npu, chip = listed[index]
    fields = {name: FIELDS[name] for name in wanted}
    answers = {
        form: pairs(_asked("info", "-t", form, "-i", npu, "-c", chip)) for form in {form for form, _ in fields.values()}
    }
    found = {}
    for name, (form, keys) in fields.items():
        value = next(
            (answers[form][key] for key in (key.replace(" (", "(") for key in keys) if key in answers[form]), None
        )
        if value and value not in {"-", "NA", "N/A"}:
            found[name] = value
    return found
