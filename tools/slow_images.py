"""Images as from a slow file server. In a file of its own: decoding processes import it, and nothing heavy with it."""

import time
from dataclasses import dataclass

from PIL import Image

from ivit_helpers.images.labelled_images import LabelledImages


@dataclass(frozen=True)
class SlowImages(LabelledImages):
    """A labelled set whose every image takes its time to arrive."""

    seconds: float = 0.0

    def image(self, index: int) -> Image.Image:
        time.sleep(self.seconds)
        return super().image(index)
