"""Pictures of images: what the network sees, and the mistakes it was surest of."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class Gallery:
    """Images with captions, as many in a row as there is room for."""

    def __init__(self, images: Sequence[Image.Image], captions: Sequence[str], *, size: int = 224) -> None:
        self.images, self.captions, self.size = list(images), list(captions), size

    def __repr__(self) -> str:
        return "\n".join(self.captions) or "no images"

    def _repr_html_(self) -> str:
        if not self.images:
            return "<p>None.</p>"
        cells = "".join(map(self._cell, self.images, self.captions))
        return f'<div class="gallery" style="display:flex;flex-wrap:wrap;gap:12px">{cells}</div>'

    def _cell(self, image: Image.Image, caption: str) -> str:
        buffer, kept = io.BytesIO(), image.copy()
        kept.thumbnail((self.size, self.size))
        kept.save(buffer, "PNG" if kept.getcolors(256) else "JPEG")
        kind = "png" if kept.getcolors(256) else "jpeg"
        source = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
        return (
            f'<figure style="margin:0;max-width:{self.size}px"><img src="{source}" alt="{escape(caption)}" '
            f'style="width:{self.size}px;max-width:100%"><figcaption>{escape(caption)}</figcaption></figure>'
        )


def patch_components(hidden: Tensor, grid: int, side: int) -> Image.Image:
    """The three principal components of the patch tokens (N, C) of one image as red, green and blue, `side` pixels wide.

    Patches that the network describes alike get like colours, so objects and background come apart in a working network.
    """
    patches = hidden[1:].float().cpu()
    patches = patches - patches.mean(dim=0)
    directions = torch.linalg.svd(patches, full_matrices=False).Vh[:3]
    components = (patches @ directions.T).reshape(grid, grid, 3).numpy()
    low, high = np.percentile(components, [2, 98], axis=(0, 1))
    colours = np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1)
    return Image.fromarray((255 * colours).astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
