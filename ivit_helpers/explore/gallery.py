"""Which images of a gallery are nearest to one image, by the cosine of their class tokens after the last block."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ivit_helpers.errors import InputError
from ivit_helpers.explore.looking import Looked
from ivit_helpers.images.decoding import Decoded, batches
from ivit_helpers.images.folders import digits, images_below
from ivit_helpers.images.labelled_images import LabelledImages
from ivit_helpers.record.parameters import ExploreParameters
from ivit_helpers.record.progress import Progress
from ivit_helpers.record.rows import Neighbour
from ivit_helpers.weights.loading import Loaded

SHOWN = 6
BATCH = 8


def gallery_images(asked: ExploreParameters) -> LabelledImages:
    """The images that the parameters name, some of them drawn at random. Raises InputError where there are none."""
    found = images_below(Path(asked.gallery).expanduser()) if asked.gallery else digits()
    return found.drawn(asked.limit, asked.seed)


@dataclass(frozen=True)
class Gallery:
    """Images with their class tokens."""

    images: LabelledImages
    decoded: tuple[Decoded, ...]
    """Those that have pixels"""
    tokens: Tensor
    """(images with pixels, C) in float32, on the CPU"""
    unreadable: int

    def label(self, number: int) -> str | None:
        """The class of an image of the set; None where there are no classes."""
        found = self.images.labels[number]
        return self.images.classes[found] if isinstance(found, int) else None


def gallery_of(loaded: Loaded, images: LabelledImages) -> Gallery:
    """Compute the class token of every image. Raises InputError where not one of them can be decoded, or the forward pass fails."""
    device, decoded, tokens, count = loaded.device, [], [], 0
    try:
        for batch in Progress(
            batches(images, loaded.checkpoint.transform, BATCH, workers=0),
            total=-(-len(images) // BATCH),
            desc="gallery",
            unit="batch",
        ):
            count += len(batch.images)
            kept = [one for one in batch.images if one.crop is not None]
            if kept:
                with device.inference():
                    hidden = loaded.network(torch.from_numpy(batch.pixels).to(device.torch_device))
                decoded += kept
                tokens.append(hidden[:, 0].float().cpu())
    except (RuntimeError, NotImplementedError) as error:
        raise InputError(
            f"The gallery cannot be computed on this device: {device.explain(error)}; give a smaller limit."
        ) from None
    if not decoded:
        raise InputError(
            f"Not one of the {count:,} images of the gallery {images.name} can be decoded: give another folder."
        )
    return Gallery(images, tuple(decoded), torch.cat(tokens), count - len(decoded))


def nearest(gallery: Gallery, looked: Looked, token: Tensor) -> list[tuple[Decoded, Neighbour]]:
    """The nearest images of a gallery, nearest first. token: (C,), the image's own; images of the same pixels are left out."""
    cosines = F.cosine_similarity(gallery.tokens, token.float()[None], dim=-1)
    order = torch.nan_to_num(cosines, nan=-2.0).argsort(descending=True, stable=True)
    others = [int(place) for place in order if gallery.decoded[int(place)].checksum != looked.checksum][:SHOWN]
    return [
        (gallery.decoded[place], neighbour(gallery, gallery.decoded[place].number, float(cosines[place])))
        for place in others
    ]


def neighbour(gallery: Gallery, number: int, similarity: float) -> Neighbour:
    """One image of the gallery for the record."""
    return Neighbour(name=gallery.images.identity(number), similarity=similarity, label=gallery.label(number))


def thumbnail(one: Decoded) -> Image.Image:
    """An image of the gallery, small."""
    assert one.crop is not None
    image = Image.fromarray(one.crop)
    image.thumbnail((112, 112))
    return image
