"""The zip archive that torch.save writes: its directory, checked so strictly that Python and torch see the same records in it."""

import os
import pickle
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ivit_helpers.weights.regular import DESCRIPTION_BYTES

RECORDS = 2**16
"""One record for each tensor: a training checkpoint of the 6B network has about 2,000. So many take a second and 60 MB to list."""
DIRECTORY_BYTES = 2**24
END, LOCATOR, END64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")
LOCAL_BYTES = 30
"""Length of what is before a record, without its name"""


@dataclass(frozen=True)
class Archive:
    """Names and lengths of the records, without the folder in which torch puts all of them; and the pickle."""

    records: dict[str, int]
    pickle: bytes


def _directory(path: Path) -> tuple[int, int]:
    """Number of entries, and the byte at which the directory begins. Raises ValueError where readers of archives could disagree."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - END64.size - LOCATOR.size - END.size))
        tail = file.read(END64.size + LOCATOR.size + END.size)
    if len(tail) < END.size:
        raise ValueError("its end is missing")
    signature, _, _, _, entries, length, begin, comment = END.unpack(tail[-END.size :])
    if signature != b"PK\5\6" or comment:
        raise ValueError("its end is missing, or torch.save did not write it")
    ends = size - END.size
    if len(tail) == END64.size + LOCATOR.size + END.size:
        located, _, where, _ = LOCATOR.unpack(tail[END64.size : -END.size])
        if located == b"PK\6\7":
            signature, _, _, _, _, _, _, entries, length, begin = END64.unpack(tail[: END64.size])
            ends = size - len(tail)
            if signature != b"PK\6\6" or where != ends:
                raise ValueError("its directory is damaged")
    if begin + length != ends or length > DIRECTORY_BYTES or entries > RECORDS:
        raise ValueError(f"its directory is damaged or has more than {RECORDS:,} records")
    return entries, begin


def _check_records(found: list[zipfile.ZipInfo], begin: int) -> None:
    """Raise UnpicklingError for records that are packed, that overlap, or of which two have one name."""
    ends = 0
    for info in sorted(found, key=lambda info: info.header_offset):
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise pickle.UnpicklingError(
                "one of its records is compressed or encrypted, and torch.save stores them as they are"
            )
        if info.header_offset < ends:
            raise pickle.UnpicklingError("two of its records overlap")
        ends = info.header_offset + LOCAL_BYTES + len(info.filename) + info.file_size
    if ends > begin:
        raise pickle.UnpicklingError("a record overlaps its directory")
    names = {info.filename.lower() for info in found}
    if len(names) < len(found) or not all(
        info.filename.isascii() and info.filename == info.orig_filename for info in found
    ):
        raise pickle.UnpicklingError("two of its records have one name, or a name is not of ASCII letters")


def read_archive(path: Path) -> Archive:
    """The directory and the pickle of an archive.

    Raises UnpicklingError for what torch.save never writes, and ValueError, OSError or BadZipFile for a damaged file.
    """
    entries, begin = _directory(path)
    with zipfile.ZipFile(path) as archive:
        found = archive.infolist()
    if len(found) != entries or not found:
        raise ValueError("its directory is damaged")
    _check_records(found, begin)
    folder = found[0].filename.partition("/")[0] + "/"
    if not all(info.filename.startswith(folder) for info in found):
        raise pickle.UnpicklingError("its records are not in one folder")
    records = {info.filename.removeprefix(folder): info for info in found}
    if any(name.lower().endswith("constants.pkl") for name in records):
        raise pickle.UnpicklingError("it is a TorchScript program")
    if sum(info.file_size for name, info in records.items() if not name.startswith("data/")) > DESCRIPTION_BYTES:
        raise pickle.UnpicklingError(f"what it holds beside numbers is longer than {DESCRIPTION_BYTES:,} bytes")
    with path.open("rb") as file:
        content = {name: _content(file, records[name]) for name in ("data.pkl", "byteorder") if name in records}
    if "data.pkl" not in content:
        raise ValueError("it has no record data.pkl")
    if content.get("byteorder", b"little") != b"little":
        raise pickle.UnpicklingError("its record byteorder is not 'little', and only little-endian numbers can be read")
    return Archive({name: info.file_size for name, info in records.items()}, content["data.pkl"])


def _content(file: BinaryIO, info: zipfile.ZipInfo) -> bytes:
    file.seek(info.header_offset + LOCAL_BYTES - 4)
    name, extra = struct.unpack("<2H", file.read(4))
    file.seek(name + extra, os.SEEK_CUR)
    return file.read(info.file_size)
