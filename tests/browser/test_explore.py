"""The explore notebook touched in JupyterLab, by pointer and by keyboard, in both themes; and the start page that leads to it."""

import re
import shutil
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from ivit_helpers.paths import DATA, NOTEBOOKS
from ivit_helpers.record.parameters import NOTEBOOKS as NAMES
from tests.browser.measured import cut, faint

SHOWN = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea-output .ivit"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def asked(lab):
    """Every address that the browser has asked for since the notebook was opened."""
    found = []
    lab.page.on("request", lambda request: found.append(request.url))
    return found


@pytest.fixture(scope="module")
def ran(run_all, asked, tmp_path_factory):
    """The notebook after Run All Cells."""
    out = tmp_path_factory.mktemp("runs") / "explore"
    return run_all("explore", device="cpu", dtype="float32", limit=20, seed=1, out=str(out))


@pytest.fixture(params=["Light", "Dark"])
def page(request, ran, lab):
    """The notebook's page in one of the themes, beside a system that has the other one."""
    lab.page.emulate_media(color_scheme="dark" if request.param == "Light" else "light")
    lab.theme(request.param)
    expect(lab.page.locator(".pick .marked")).to_be_visible()
    return lab.page


def handle(page, name):
    """The handle of the slider of that name, which the keyboard moves."""
    return page.locator(".widget-slider", has=page.get_by_text(name, exact=True)).locator(".noUi-handle")


def upload(page, name, content):
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="upload an image").click()
    chooser.value.set_files({"name": name, "mimeType": "image/png", "buffer": content})


def test_no_cell_shows_an_error_and_everything_is_whole_and_legible(ran, page):
    outputs = [output for cell in ran.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert faint(page, SHOWN) == []
    for width in (1000, 1400):
        page.set_viewport_size({"width": width, "height": 1000})
        assert cut(page, SHOWN) == []
        for picture in page.locator(f"{SHOWN} .panels figure").all():
            assert picture.bounding_box()["x"] + picture.bounding_box()["width"] < width - 40, (
                "beside the notebook's scroll bar"
            )


def test_a_slider_moves_to_another_block_and_the_pictures_change(page):
    components, attention = page.locator(".beside img.patches"), page.locator(".beside > .widget-html svg").first
    handle(page, "block").press("End")
    expect(attention).to_have_attribute("aria-label", re.compile("^block 4, the mean of all heads: "))
    before = components.get_attribute("src"), attention.inner_html()
    handle(page, "block").press("ArrowLeft")
    expect(attention).to_have_attribute("aria-label", re.compile("^block 3, the mean of all heads: "))
    assert attention.inner_html() != before[1]
    expect(components).not_to_have_attribute("src", before[0])
    expect(page.locator(".answer", has_text="After block 3")).to_be_visible()


def test_a_patch_is_chosen_by_pointer_and_by_keyboard(page):
    marked, caption = page.locator(".pick .marked"), page.locator(".beside figcaption", has_text="Similarity")
    page.locator(".pick .widget-radio-box label").nth(2 * 16 + 5).click()
    expect(caption).to_contain_text("row 3, column 6")
    expect(marked).to_have_attribute("x", "5")
    expect(marked).to_have_attribute("y", "2")
    clicked = page.locator(".pick .widget-radio-box label").nth(2 * 16 + 5).bounding_box()
    outlined = marked.bounding_box()
    assert abs(clicked["x"] - outlined["x"]) < 3, "what is clicked is what is marked"
    assert abs(clicked["y"] - outlined["y"]) < 3
    handle(page, "patch: row").press("ArrowRight")
    expect(caption).to_contain_text("row 4, column 6")
    expect(marked).to_have_attribute("y", "3")


def test_a_head_is_chosen_from_a_list(page):
    heads = page.get_by_label("attention", exact=True)
    heads.select_option("head 2")
    expect(page.locator(".beside figcaption", has_text="Attention")).to_contain_text("head 2")
    heads.select_option("mean of all heads")
    expect(page.locator(".beside figcaption", has_text="Attention")).to_contain_text("the mean of all heads")


def test_a_wrong_image_is_its_sentence_and_a_right_one_changes_every_cell(page):
    upload(page, "words.png", b"no image at all")
    wrong = page.locator(".wrong")
    expect(wrong).to_have_text(
        re.compile(r"^✗ words\.png cannot be read as an image \(.*\): drop a JPEG, PNG or WebP file, or another")
    )
    expect(page.locator(".pick figcaption")).not_to_contain_text("words.png")
    assert page.get_by_text("Traceback").count() == 0
    theme = page.evaluate("document.body.dataset.jpThemeName")
    name, digit = f"digit in {theme}.png", {"JupyterLab Light": "3/1438.png", "JupyterLab Dark": "7/1442.png"}[theme]
    upload(page, name, (DATA / "digits" / digit).read_bytes())
    for place in (".pick figcaption", ".answer >> nth=1", ".panels.small figcaption >> nth=0"):
        expect(page.locator(place)).to_contain_text(name)
    expect(wrong).to_have_count(0)
    page.get_by_role("button", name=f"compare {name}").click()
    expect(page.get_by_role("button", name=f"compared: {name}")).to_be_disabled()
    expect(page.locator(".answer", has_text=f"{name}: this device and the CPU in float64 agree")).to_be_visible()


def test_nothing_was_asked_of_another_machine(ran, asked, lab):
    assert {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))} <= {
        urlsplit(lab.page.url).hostname
    }


def test_each_notebook_is_one_click_away_from_the_start_page(browser, lab_address):
    address, served = lab_address
    for path in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(path, served)
    for (
        name
    ) in NAMES:  # each in a browser of its own: a notebook that is still opening comes to the front of another's page
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        page = context.new_page()
        page.goto(address.replace("/lab", f"/lab/workspaces/{name}/tree/README.ipynb"))
        page.locator(".jp-RenderedMarkdown a", has_text=name).click()
        expect(page.locator(".lm-TabBar-tab", has_text=f"{name}.ipynb")).to_be_visible()
        context.close()
