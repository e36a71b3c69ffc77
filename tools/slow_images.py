"""Images as from a slow file server. The class has a file of its own because decoding processes import it, and nothing heavy with it."""

import time
from dataclasses import dataclass

from ivit_helpers.images.labelled_images import LabelledImages
from ivit_helpers.images.transform import Picture


@dataclass(frozen=True)
class SlowImages(LabelledImages):
    """A labelled set, each of whose images arrives after a delay."""

    seconds: float = 0.0

    def picture(self, index: int) -> Picture:
        time.sleep(self.seconds)
        return super().picture(index)
