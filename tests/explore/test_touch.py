"""The widgets, without a browser: what is chosen is shown, and a wrong image is one sentence."""

import io
from datetime import datetime, timezone

import ipywidgets
import numpy as np
import pytest
from PIL import Image

from ivit_helpers.device.selection import select
from ivit_helpers.explore import questions
from ivit_helpers.record.parameters import ExploreParameters
from ivit_helpers.record.run import start
from ivit_helpers.weights import loading, sources
from tests.notebook import executed

DAY = datetime(2026, 1, 2, tzinfo=timezone.utc)


def inside(widget, kind):
    found = [widget] if isinstance(widget, kind) else []
    return found + [inner for child in getattr(widget, "children", ()) for inner in inside(child, kind)]


def described(widget, kind, description):
    return next(one for one in inside(widget, kind) if one.description == description)


def html(widget):
    return "".join(one.value for one in inside(widget, ipywidgets.HTML))


@pytest.fixture
def desk(model_folder, tmp_path):
    run = start(ExploreParameters(model=str(model_folder), device="cpu", out=str(tmp_path / "run"), limit=5))
    device = select("cpu")
    loaded = loading.load(sources.find(str(model_folder)), device, device.dtype("float32"))
    questions.begin(run, loaded)
    return questions.look(run, loaded)


@pytest.fixture
def panel(desk):
    return questions.blocks(desk).widget


def test_a_slider_a_head_and_a_patch_change_the_pictures(desk, panel):
    shown = [html(panel)]
    for kind, description, value in (
        (ipywidgets.IntSlider, "block", 1),
        (ipywidgets.Dropdown, "attention", 2),
        (ipywidgets.IntSlider, "patch: row", 1),
    ):
        described(panel, kind, description).value = value
        assert html(panel) not in shown
        shown.append(html(panel))
    assert (desk.view.block, desk.view.head, desk.view.patch) == (1, 2, 2)


def test_a_click_on_a_patch_moves_the_sliders_and_back(desk, panel):
    [places] = inside(panel, ipywidgets.RadioButtons)
    assert len(places.options) == 16
    places.value = 7
    assert (desk.view.patch, described(panel, ipywidgets.IntSlider, "patch: row").value) == (7, 2)
    assert described(panel, ipywidgets.IntSlider, "column").value == 4
    described(panel, ipywidgets.IntSlider, "column").value = 1
    assert places.value == desk.view.patch == 4


def test_a_cell_that_runs_again_replaces_its_widgets(desk):
    first, second = (questions.blocks(desk).widget for _ in range(2))
    before = html(first)
    described(second, ipywidgets.IntSlider, "block").value = 1
    assert html(first) == before
    assert html(second) != before


def uploaded(name, content):
    return (
        {"name": name, "type": "image/png", "size": len(content), "content": memoryview(content), "last_modified": DAY},
    )


def png(seed=0):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_everything_follows_an_image_that_is_uploaded_or_chosen(desk, panel):
    others = [questions.answers(desk).widget, questions.neighbours(desk).widget]
    before = [html(one) for one in others]
    [upload] = inside(panel, ipywidgets.FileUpload)
    upload.set_trait("value", uploaded("mine.png", png()))
    assert desk.looked.name == "mine.png"
    assert upload.value == ()
    assert all("mine.png" in html(one) for one in [panel, *others])
    images = described(panel, ipywidgets.Dropdown, "image")
    assert images.value == "mine.png"
    images.value = images.options[0]
    assert [html(one).split("plot")[0] for one in others] == [one.split("plot")[0] for one in before], (
        "back to the first image"
    )


def test_a_wrong_image_is_one_sentence_and_the_pictures_stay(desk, panel, tmp_path):
    before, image = html(panel), desk.looked
    [upload], [path] = inside(panel, ipywidgets.FileUpload), inside(panel, ipywidgets.Text)
    upload.set_trait("value", uploaded("<b>words.png", b"no image"))
    assert "✗ &lt;b&gt;words.png cannot be read as an image" in html(panel)
    assert "drop a JPEG, PNG or WebP file" in html(panel)
    path.value = str(tmp_path / "nothing.jpg")
    assert "nothing.jpg&#x27; does not exist: give the path of an image file." in html(panel)
    assert desk.looked is image
    (tmp_path / "good.png").write_bytes(png(1))
    path.value = str(tmp_path / "good.png")
    assert 'class="wrong"' not in html(panel)
    assert html(panel) != before


def test_another_image_is_compared_with_the_other_side_when_the_button_is_pressed(desk, panel):
    sides, where = questions.two_sides(desk).widget, questions.where(desk).widget
    [button] = inside(sides, ipywidgets.Button)
    assert button.disabled
    [upload] = inside(panel, ipywidgets.FileUpload)
    upload.set_trait("value", uploaded("mine.png", png()))
    assert (button.disabled, button.description) == (False, "compare mine.png")
    rows = desk.run.record.rows
    assert "mine.png" not in html(where)
    button.click()
    assert button.disabled
    assert "mine.png" in html(where)
    assert desk.run.record.rows == rows, "the record is of the parameters' image"


def test_a_device_that_fails_while_something_is_chosen_is_one_sentence(desk, panel):
    def refuse(*_):
        raise RuntimeError("no kernel")

    desk.loaded.network.encoder.layers[0].register_forward_hook(refuse)
    [upload] = inside(panel, ipywidgets.FileUpload)
    upload.set_trait("value", uploaded("mine.png", png()))
    assert "✗ The forward pass fails on this device: RuntimeError: no kernel" in html(panel)


def test_in_jupyterlab_a_widget_is_shown_and_on_the_page_what_the_parameters_name(desk):
    touched = questions.blocks(desk)
    bundle = touched._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    described(touched.widget, ipywidgets.IntSlider, "block").value = 1
    assert touched._repr_mimebundle_()["text/html"] == bundle["text/html"]
    assert "In block 3 of 3" in bundle["text/html"]


def test_a_page_of_ivit_run_has_no_widgets(model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("IVIT_RUN_ID", "0123456789abcdef")
    monkeypatch.setenv("IVIT_RENDERED_LATER", "1")
    done = executed("explore", model=str(model_folder), device="cpu", dtype="float32", limit=3, out=str(tmp_path))
    assert done.run.record.batch
    assert not hasattr(questions.blocks(done.desk), "widget")
    assert any("From block to block" in one for one in done.shown)
