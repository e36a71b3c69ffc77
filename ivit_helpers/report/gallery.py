"""Images with captions."""

from collections.abc import Sequence
from html import escape

from PIL import Image

from ivit_helpers.report.panels import data_uri
from ivit_helpers.report.theme import styled


class Gallery:
    """Images with captions, as many in a row as there is room for."""

    def __init__(self, images: Sequence[Image.Image], captions: Sequence[str], *, size: int = 224) -> None:
        self.images, self.captions, self.size = list(images), list(captions), size

    def __repr__(self) -> str:
        return "\n".join(self.captions) or "no images"

    def _repr_html_(self) -> str:
        if not self.images:
            return styled("<p>None.</p>")
        return styled(f'<div class="gallery">{"".join(map(self._cell, self.images, self.captions))}</div>')

    def _cell(self, image: Image.Image, caption: str) -> str:
        kept = image.copy()
        kept.thumbnail((self.size, self.size))
        return (
            f'<figure style="width:min({self.size}px,100%)"><img src="{data_uri(kept)}" alt="{escape(caption)}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
