"""One image that a user names or drops: its pixels, or one sentence on why there are none."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import IO

from PIL import Image

from ivit_helpers.errors import InputError, first_line
from ivit_helpers.images.folders import digits
from ivit_helpers.images.labelled_images import printable
from ivit_helpers.images.regular import open_regular
from ivit_helpers.images.transform import read_image

ADVICE = "give the path of an image file"


def named_image(image_path: str) -> tuple[Path, Image.Image]:
    """Path and RGB pixels of the image that the parameter `image_path` names; empty: an embedded one. Raises InputError."""
    given = f"image_path={printable(image_path)!r}"
    try:
        path = Path(image_path).expanduser() if image_path else digits().paths[-1]
        if not path.is_file():  # opening a pipe would wait for ever
            what = "is not a file" if path.exists() else "does not exist"
            raise InputError(f"{given} {what}: {ADVICE}.")
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, too long a name, the home of nobody
        raise InputError(f"{given} cannot be read as an image ({first_line(error)}): {ADVICE}.") from None
    return path, _read(lambda: open_regular(path), given, ADVICE)


def dropped_image(name: str, content: bytes) -> Image.Image:
    """RGB pixels of a file that was dropped on a page. Raises InputError where it is not an image that can be read."""
    return _read(
        lambda: io.BytesIO(content), printable(name), "drop a JPEG, PNG or WebP file, or another one that Pillow reads"
    )


def _read(opened: Callable[[], IO[bytes]], name: str, advice: str) -> Image.Image:
    try:
        with opened() as file:
            return read_image(file)
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        raise InputError(f"{name} cannot be read as an image ({first_line(error)}): {advice}.") from None
