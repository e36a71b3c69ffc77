"""The header of a safetensors file: where each tensor is. The library checks it; it does not give the offsets."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ivit_helpers.errors import InputError, first_line
from ivit_helpers.weights.regular import DESCRIPTION_BYTES, parsed, printable

TENSORS = 2**16
"""Of a folder or a file. A chat model has 3,000."""


def check_header(path: Path) -> int:
    """Length of the header.

    Raises InputError for a safetensors file that is incomplete, or whose header the library refuses or is too long.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > DESCRIPTION_BYTES:
        raise InputError(
            f"{path} cannot be read as weights (its header of {length:,} bytes is longer than {DESCRIPTION_BYTES:,}): download it again."
        )
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read as weights ({first_line(error)[:200]}): the file is damaged or incomplete, download it again."
        ) from None
    return length


def header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the tensors of a safetensors file begin, and their entries in its header."""
    length = check_header(path)
    with path.open("rb") as file:
        file.seek(8)
        written = file.read(length)
    try:
        entries: dict[str, Any] = parsed(written.decode())
    except ValueError as error:
        raise InputError(f"{path} cannot be read as weights (its header: {error}): download the file again.") from None
    entries.pop("__metadata__", None)
    if len(entries) > TENSORS or not all(printable(name) for name in entries):
        raise InputError(
            f"{path} holds more than {TENSORS:,} tensors, or one whose name is too long or cannot be printed: download it again."
        )
    return 8 + length, entries
