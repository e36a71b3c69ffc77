"""Regular files: what a weights folder may consist of. Opening a pipe waits, and a device has no end; a JSON file has limits."""

import json
import math
import reprlib
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ivit_helpers.errors import InputError

INDEX_BYTES, JSON_BYTES = 2**23, 2**20
"""Of an index, and of any other JSON file. A chat model with 3,000 tensors has an index of 0.3 MB and a config.json of 10 kB. The worst
8 MiB of JSON take 0.3 GiB of memory and 4 seconds."""
DESCRIPTION_BYTES = 2**22
"""Of what weight files hold beside values, in all files of a model: pickles, or headers. A chat model with 3,000 tensors has 0.5 MB."""
DEPTH = 20
"""A chat model's config.json is nested 4 deep. Comparing or printing what is nested 900 deep exceeds Python's recursion limit."""
NAME_LENGTH = 500
"""Characters of a name. A chat model has names of 80."""
LONGEST_SHOWN = 300
"""Characters of a text from a file or a parameter; a longer one is shown by its beginning and its end"""
LISTED = 5
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def shown(value: object) -> str:
    """A value from a file or a parameter for a sentence: short, on one line, however long or nested the value is."""
    limited = reprlib.Repr()
    limited.maxstring = limited.maxother = LONGEST_SHOWN
    return limited.repr(value)


def bare(value: object) -> str:
    """As `shown`, and a text without quotation marks if it can be printed."""
    return value if isinstance(value, str) and printable(value) else shown(value)


def listed(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(map(bare, names[:LISTED])) + more


def printable(name: str) -> bool:
    """Whether a name from a file can be a part of a sentence."""
    return 0 < len(name) <= NAME_LENGTH and name.isprintable()


def expanded(path: str, parameter: str) -> Path:
    """The path that a parameter gives, `~` replaced. Raises InputError for one that no file system can hold, or may not be looked at."""
    try:
        place = Path(path).expanduser()
        place.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise InputError(
            f"{parameter}={shown(path)} cannot be opened ({error.strerror}): correct the path or its permissions."
        ) from None
    except (ValueError, RuntimeError) as error:  # a NUL byte; a home folder of nobody
        raise InputError(f"{parameter}={shown(path)} cannot be a path ({error}): correct it.") from None
    return place


def is_there(path: Path) -> bool:
    """Whether something has that name: also a link to nothing, and what may not be looked at, of which `check_regular` says why."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True
    return True


def check_regular(path: Path) -> None:
    """Raise InputError for what is not a regular file that can be read, without opening anything else."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        if kind == stat.S_IFREG:
            path.open("rb").close()
            return
    except FileNotFoundError:
        what = "is a link to a file that is not there" if path.is_symlink() else "is not there"
        raise InputError(f"{path} {what}: download the file again.") from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened ({error.strerror}): correct its permissions, or download it again."
        ) from None
    except ValueError as error:  # a NUL byte
        raise InputError(f"{shown(str(path))} cannot be a path ({error}): download the folder again.") from None
    raise InputError(
        f"{path} is {KINDS.get(kind, 'not a regular file')} where a regular file is needed: download the file again."
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"the key {shown(Counter(name for name, _ in pairs).most_common(1)[0][0])} is written twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shown(text)} is not a finite number")
    return number


def parsed(text: str) -> Any:
    """The content of JSON text. Raises ValueError also for what JSON does not define: keys written twice, NaN, endless nesting."""
    try:
        content = json.loads(text, object_pairs_hook=_once, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEPTH} deep") from None
    level = [content]
    for _ in range(DEPTH):
        inner = [item for item in level if isinstance(item, dict | list)]
        level = [value for item in inner for value in (item.values() if isinstance(item, dict) else item)]
    if level:
        raise ValueError(f"it is nested more than {DEPTH} deep")
    return content


def read_json(path: Path, most: int = JSON_BYTES) -> dict[str, Any]:
    """A JSON object from a file of at most `most` bytes. Raises InputError."""
    if not is_there(path):
        raise InputError(f"{path.parent} has no {path.name}: is it a complete copy of the published folder?")
    check_regular(path)
    try:
        with path.open("rb") as file:
            written = file.read(most + 1)
        if len(written) > most:
            raise InputError(
                f"{path} has more than {most:,} bytes, the most that are read of such a file: download it again."
            )
        content = parsed(written.decode())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): copy or download the file again.") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): download the file again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a JSON object: download the file again.")
    return content
