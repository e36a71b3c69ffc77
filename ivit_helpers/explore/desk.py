"""What the cells of the notebook share: the run, the network, and what is looked at now."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from PIL import Image

from ivit_helpers.explore.gallery import Gallery, gallery_images, gallery_of
from ivit_helpers.explore.looking import Looked, look_at, view_of
from ivit_helpers.explore.sides import TwoSides
from ivit_helpers.explore.states import States
from ivit_helpers.images.labelled_images import LabelledImages
from ivit_helpers.images.single import named_image
from ivit_helpers.record.parameters import ExploreParameters
from ivit_helpers.record.record import ExploreRecord
from ivit_helpers.record.run import Run
from ivit_helpers.weights.loading import Loaded

ExploreRun = Run[ExploreRecord]


@dataclass
class Follower:
    """Something that is shown, and what of the desk it depends on."""

    of: Callable[[], object]
    follow: Callable[[], None]
    last: object

    def tell(self) -> None:
        """Follow, where what it depends on has changed."""
        now = self.of()
        if now != self.last:
            self.last = now
            self.follow()


class Desk:
    """An image and a view of the network, which widgets change and which cells show."""

    def __init__(self, run: ExploreRun, loaded: Loaded) -> None:
        self.run, self.loaded = run, loaded
        self.asked = ExploreParameters(**run.record.parameters)
        self.config = loaded.network.config
        self.view = view_of(self.asked, self.config)
        path, image = named_image(self.asked.image_path)
        self.looked = self.read(path.name, image)
        self.states = States(loaded.network, loaded.device)
        self.sides: TwoSides | None = None
        """Of the image that was compared last"""
        self._followers: dict[str, Follower] = {}

    @property
    def is_live(self) -> bool:
        """Whether somebody may touch widgets: not where `ivit run` makes a page."""
        return not self.run.record.batch

    @cached_property
    def images(self) -> LabelledImages:
        """The images of the gallery."""
        return gallery_images(self.asked)

    @cached_property
    def gallery(self) -> Gallery:
        """The gallery with its class tokens, computed once."""
        return gallery_of(self.loaded, self.images)

    def follow(self, name: str, of: Callable[[], object], follower: Callable[[], None]) -> None:
        """Call `follower` whenever what `of` gives is not what it was. It replaces the one of that name: a cell may run again."""
        self._followers[name] = Follower(of, follower, of())

    def change(self, looked: Looked | None = None, **view: int) -> None:
        """Look at another image, or at another block, head or patch."""
        self.looked, self.view = looked or self.looked, replace(self.view, **view)
        self.tell()

    def tell(self) -> None:
        """Let everything that is shown follow."""
        for follower in list(self._followers.values()):
            follower.tell()

    def read(self, name: str, image: Image.Image) -> Looked:
        """An RGB image as the network gets it. Raises InputError."""
        return look_at(name, image, self.loaded.checkpoint.transform)
