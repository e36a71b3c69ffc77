"""The record inside its page, so that the page alone is enough to compare it or to draw it again."""

import base64
import binascii
import json
import re
import zlib
from pathlib import Path

from ivit_helpers.errors import InputError
from ivit_helpers.paths import printable
from ivit_helpers.record.record import LARGEST, AnyRecord, content_of, read_content

PLAIN = 100_000
"""Bytes of a record beyond which it is compressed in the page"""
_LINK = re.compile(
    rb'<a download="[a-z]+\.json(\.gz)?" href="data:application/(?:json|gzip);base64,([A-Za-z0-9+/=]+)" id="record">'
)
"""Its attributes are in alphabetical order, which is how nbconvert writes them"""


def link(record: AnyRecord) -> str:
    """The link of a page whose target is the record itself."""
    content = json.dumps(record.model_dump(mode="json", by_alias=True), separators=(",", ":"), allow_nan=False).encode()
    name, kind = f"{record.notebook}.json", "json"
    if len(content) > PLAIN:
        compressor = zlib.compressobj(9, wbits=31)
        content, name, kind = compressor.compress(content) + compressor.flush(), f"{name}.gz", "gzip"
    data = base64.b64encode(content).decode()
    return f'<a download="{name}" href="data:application/{kind};base64,{data}" id="record">{name}</a>'


def record_in(path: Path) -> AnyRecord:
    """The record that a page holds, as strictly checked as `ivit_helpers.record.read` does.

    Raises InputError where the page cannot be read, holds no record, or holds one that is damaged or is not of this schema.
    """
    name = printable(str(path))
    found = _LINK.findall(content_of(path))
    if not found:
        raise InputError(
            f"The page {name} holds no record: give a page that `ivit run` has made, or the record beside it."
        )
    compressed, data = found[-1]  # the last one is the page's own: what cells have shown comes before it
    try:
        content = base64.b64decode(data, validate=True)
        if compressed:
            unpacked = zlib.decompressobj(wbits=31)
            content = unpacked.decompress(content, LARGEST + 1)
            if len(content) > LARGEST or not unpacked.eof:
                raise InputError(
                    f"The record in {name} is cut off, or larger than any run writes: give the record beside the page."
                )
    except (binascii.Error, zlib.error):
        raise InputError(f"The record in {name} is damaged: give the record beside the page.") from None
    return read_content(content, f"The record in {name}")
