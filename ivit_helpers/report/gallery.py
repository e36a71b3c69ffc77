"""Images with captions."""

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

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
        buffer, kept = io.BytesIO(), image.copy()
        kept.thumbnail((self.size, self.size))
        few = bool(kept.getcolors(256))
        kept.save(buffer, "PNG" if few else "JPEG")
        source = f"data:image/{'png' if few else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"
        return (
            f'<figure style="width:min({self.size}px,100%)"><img src="{source}" alt="{escape(caption)}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
