"""The header of a safetensors file: where each tensor is. The library checks it; it does not give the offsets."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ivit_helpers.errors import InputError, first_line
from ivit_helpers.weights.regular import parsed, printable

TENSORS = 2**16
"""Of a folder or a file. A chat model has 3,000."""
HEADER_BYTES = 2**23
"""100 bytes for each tensor. The format allows 100 MB, which take a gigabyte to parse."""


def check_header(path: Path) -> None:
    """Raise InputError for a safetensors file that is incomplete, or whose header the library refuses or is too long."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > HEADER_BYTES:
        raise InputError(
            f"{path} cannot be read as weights (its header of {length:,} bytes is longer than {HEADER_BYTES:,}): download it again."
        )
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read as weights ({first_line(error)[:200]}): the file is damaged or incomplete, download it again."
        ) from None


def header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the tensors of a safetensors file begin, and their entries in its header."""
    check_header(path)  # the library checks the header; it does not give the offsets
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
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
