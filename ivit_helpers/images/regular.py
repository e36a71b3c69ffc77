"""Regular files, opened without waiting: a pipe, a socket or a device in a file's place is an error and never a hang."""

import os
import re
import stat
from pathlib import Path
from typing import IO

IMAGE_STARTS = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8[79]|BM....\0\0\0\0|II\*\0|MM\0\*|RIFF....WEBP|P[1-7]\s|\0\0\0\x0c(?:jP  |JXL )|\xff\x0a"
    rb"|....ftyp(?:avi|hei|hev|mif|msf)|8BPS|\0\0[\1\2]\0[^\0]\0|qoif|\xff\x4f\xff\x51",
    re.DOTALL,
)
"""How the files of common image formats begin: JPEG, PNG, GIF, BMP, TIFF, WebP, PNM, JPEG 2000, JPEG XL, AVIF and HEIC, PSD, ICO, QOI"""
START = 32
"""Bytes of a file that IMAGE_STARTS needs"""


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file to be read. Raises OSError for anything else, FileNotFoundError where there is nothing."""
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 (the caller closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path.name} is not a regular file")
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_bytes(path: Path, most: int) -> bytes:
    """A regular file's content. Raises ValueError where it is longer than `most` bytes, OSError where it cannot be read."""
    with open_regular(path) as file:
        content = file.read(most + 1 if os.fstat(file.fileno()).st_size <= most else 0)
        longer = len(content) > most or os.fstat(file.fileno()).st_size > most
    if longer:
        raise ValueError(f"it has more than {most:,} bytes")
    return content


def read_text(path: Path, most: int) -> str:
    """A regular file's text in UTF-8, with or without a byte order mark. Raises ValueError or OSError for anything else."""
    content = read_bytes(path, most)
    if b"\0" in content:
        raise ValueError("it holds NUL bytes, so it is not a text in UTF-8")
    return content.decode("utf-8-sig")


def begins_like_an_image(start: bytes) -> bool:
    """Whether the first bytes of a file are those of an image."""
    return IMAGE_STARTS.match(start) is not None
