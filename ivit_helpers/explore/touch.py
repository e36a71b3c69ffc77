"""The widgets of the notebook: a thin layer over the desk. Whatever they show is made elsewhere, and whatever they choose goes there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from html import escape
from typing import Any

import ipywidgets as widgets

from ivit_helpers.errors import InputError, first_line
from ivit_helpers.explore.desk import Desk
from ivit_helpers.explore.looking import Looked, place_of
from ivit_helpers.explore.pictures import block_panels, image_panel, in_words
from ivit_helpers.explore.sides import compare
from ivit_helpers.images.single import dropped_image, named_image
from ivit_helpers.report.panels import Panels
from ivit_helpers.report.table import Sentence
from ivit_helpers.report.theme import styled

LISTED = 500
"""Images of a gallery that the list of images names"""
WIDE = {"description_width": "6em"}


class Touched:
    """A widget in JupyterLab, and what stands in its place where there is no kernel: on the run's page."""

    def __init__(self, widget: widgets.DOMWidget, still: Any) -> None:
        self.widget = widget
        self.still: str = still._repr_html_()

    def _repr_html_(self) -> str:
        return self.still

    def _repr_mimebundle_(self, **_given: Any) -> dict[str, Any]:
        return {**self.widget._repr_mimebundle_(), "text/html": self.still}


class Message:
    """A line that says what went wrong, in one sentence, and is empty otherwise."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.widget = widgets.HTML(layout=widgets.Layout(display="none"))

    def say(self, sentence: str) -> None:
        """Show a sentence; an empty one removes the line."""
        self.widget.value = styled(f'<p class="wrong" role="alert">✗ {escape(sentence)}</p>') if sentence else ""
        self.widget.layout.display = "" if sentence else "none"

    @contextmanager
    def instead_of_a_traceback(self) -> Iterator[None]:
        """What a user can put right, and what the device refuses, is said here; what was said before goes."""
        self.say("")
        try:
            yield
        except InputError as error:
            self.say(str(error))
        except (RuntimeError, NotImplementedError) as error:
            self.say(self.desk.loaded.device.explain(error))


@contextmanager
def unheard(observer: Callable[[Any], None], *heard: widgets.Widget) -> Iterator[None]:
    """Set values of widgets without telling the observer: of two that belong together, or of a list whose options change."""
    for widget in heard:
        widget.unobserve(observer, "value")
    try:
        yield
    finally:
        for widget in heard:
            widget.observe(observer, "value")


def following(desk: Desk, name: str, shown: Callable[[], Any], of: Callable[[], object]) -> Touched:
    """Something that is made anew whenever what `of` gives changes."""
    still = shown()
    picture, message = widgets.HTML(still._repr_html_()), Message(desk)

    def follow() -> None:
        with message.instead_of_a_traceback():
            picture.value = shown()._repr_html_()

    desk.follow(name, of, follow)
    return Touched(widgets.VBox([picture, message.widget]), still)


def block_desk(desk: Desk, still: Any) -> Touched:
    """Choose an image, a block, a head and a patch; the pictures follow."""
    message = Message(desk)
    choices = widgets.Box([*_image_choice(desk, message), *_view_choice(desk)]).add_class("choices")
    answer, pictures = widgets.HTML(), widgets.HTML()

    def follow() -> None:
        with message.instead_of_a_traceback():
            desk.states.ask(desk.looked, desk.states.all_that_fit())
            answer.value = Sentence(in_words(desk.states, desk.looked, desk.view))._repr_html_()
            pictures.value = Panels(block_panels(desk.states, desk.looked, desk.view))._repr_html_()

    follow()
    desk.follow("pictures", lambda: (desk.looked, desk.view), follow)
    beside = widgets.HBox([_patch_choice(desk), pictures]).add_class("beside")
    return Touched(widgets.VBox([choices, message.widget, answer, beside]).add_class("ivit-touch"), still)


def _image_choice(desk: Desk, message: Message) -> list[widgets.Widget]:
    """A list of images, a path on this machine, and a file of the user's own machine. What is read once stays in the list."""
    given = desk.looked
    known: dict[str, Callable[[], Looked]] = {f"{given.name} (as given)": lambda: given}
    known |= {
        desk.images.identity(number): partial(_of_gallery, desk, number)
        for number in range(min(LISTED, len(desk.images)))
    }
    chosen = widgets.Dropdown(options=list(known), description="image", style=WIDE)
    path = widgets.Text(description="or its path", placeholder="on this machine", continuous_update=False, style=WIDE)
    upload = widgets.FileUpload(
        accept="image/*", multiple=False, description="upload an image", layout=widgets.Layout(width="auto")
    )
    upload.tooltip = "up to 10 MB, the most that Jupyter's server takes in one message; for a larger file give its path"

    def from_list(change: dict[str, Any]) -> None:
        with message.instead_of_a_traceback():
            desk.change(known[change["new"]]())

    def take(looked: Looked) -> None:
        known[looked.name] = lambda: looked
        with unheard(from_list, chosen):  # new options choose the first of them
            chosen.options, chosen.value = list(known), looked.name
        desk.change(looked)

    def from_path(change: dict[str, Any]) -> None:
        with message.instead_of_a_traceback():
            if change["new"]:
                found, image = named_image(change["new"])
                take(desk.read(found.name, image))

    def from_upload(change: dict[str, Any]) -> None:
        for file in change["new"]:
            with message.instead_of_a_traceback():
                take(desk.read(file["name"], dropped_image(file["name"], bytes(file["content"]))))
            upload.value = ()  # so that the same file may come again

    chosen.observe(from_list, "value")
    path.observe(from_path, "value")
    upload.observe(from_upload, "value")
    return [chosen, path, upload]


def _of_gallery(desk: Desk, number: int) -> Looked:
    name = desk.images.identity(number)
    try:
        return desk.read(name, desk.images.picture(number).image)
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be read as an image ({first_line(error)}): choose another one.") from None


def _view_choice(desk: Desk) -> list[widgets.Widget]:
    """Sliders of block, row and column, and a list of heads."""
    config, grid = desk.config, desk.config.grid
    heads = [
        ("mean of all heads", 0),
        *((f"head {number}", number) for number in range(1, config.num_attention_heads + 1)),
    ]
    block = widgets.IntSlider(desk.view.block, 1, config.num_hidden_layers, description="block", style=WIDE)
    head = widgets.Dropdown(options=heads, value=desk.view.head, description="attention", style=WIDE)
    row, column = (
        widgets.IntSlider(value + 1, 1, grid, description=name, style=WIDE)
        for name, value in zip(("patch: row", "column"), divmod(desk.view.patch, grid), strict=True)
    )

    def by_slider(_change: dict[str, Any]) -> None:
        desk.change(patch=(row.value - 1) * grid + column.value - 1)

    def follow() -> None:
        with unheard(by_slider, row, column):
            row.value, column.value = (place + 1 for place in divmod(desk.view.patch, grid))

    block.observe(lambda change: desk.change(block=change["new"]), "value")
    head.observe(lambda change: desk.change(head=change["new"]), "value")
    row.observe(by_slider, "value")
    column.observe(by_slider, "value")
    desk.follow("sliders", lambda: desk.view.patch, follow)
    return [block, head, row, column]


def _patch_choice(desk: Desk) -> widgets.Widget:
    """The image, whose patches can be clicked. For the keyboard there are the sliders of row and column: 256 tab stops help nobody."""
    grid = desk.config.grid
    columns = (
        f"<style>.ivit-touch .pick{grid} .widget-radio-box {{ grid-template-columns: repeat({grid}, 1fr); }}</style>"
    )
    picture = widgets.HTML()
    places = widgets.RadioButtons(
        options=[(place_of(patch, grid), patch) for patch in range(grid**2)], value=desk.view.patch
    )

    def follow() -> None:
        picture.value = columns + Panels([image_panel(desk.looked, grid, desk.view.patch)])._repr_html_()
        places.value = desk.view.patch

    follow()
    places.observe(lambda change: desk.change(patch=change["new"]), "value")
    desk.follow("image", lambda: (desk.looked, desk.view.patch), follow)
    return widgets.Box([picture, places]).add_class("pick").add_class(f"pick{grid}")


def sides_desk(desk: Desk, still: Any) -> Touched:
    """The differences block by block, and a button that compares the image that is looked at now, which may take minutes."""
    assert desk.sides is not None
    figure, message = widgets.HTML(still._repr_html_()), Message(desk)
    button = widgets.Button(layout=widgets.Layout(width="fit-content"))

    def follow() -> None:
        assert desk.sides is not None
        same = desk.sides.looked.checksum == desk.looked.checksum
        button.disabled = same
        button.description = f"compared: {desk.looked.name}" if same else f"compare {desk.looked.name}"

    def press(_button: widgets.Button) -> None:
        button.disabled, button.description = True, f"comparing {desk.looked.name} …"
        with message.instead_of_a_traceback():
            desk.sides = compare(desk.loaded, desk.looked, desk.asked.other)
            figure.value = desk.sides.shown()._repr_html_()
        desk.tell()

    button.on_click(press)
    desk.follow("button", lambda: (desk.looked, desk.sides), follow)
    follow()
    return Touched(widgets.VBox([button, figure, message.widget]), still)
