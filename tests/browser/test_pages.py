"""Pages in a real Chromium: whole at every width, readable in both schemes and on paper, and usable by pointer and by keyboard."""

from contextlib import ExitStack

import pytest

from tests.browser import made
from tests.browser.measured import ask, cut, faint, unfold, violations

WIDTHS = (360, 390, 500, 600, 700, 800, 900, 1000, 1280, 1600)
WITH_FIGURES = ("smoke", "benchmark", "accuracy", "explore", "compare", "failed")
SCHEMES = ("light", "dark")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def pages(chromium, report):
    """Made once in a process, also where it runs other tests between those of this folder."""
    return made.make(report)


@pytest.fixture
def visit(browser, pages):
    """Open one of the pages. The test fails where the page has asked for anything but itself, or has said anything to the console."""
    with ExitStack() as stack:
        asked, said = [], []

        def opened(name, **settings):
            context = browser.new_context(**settings)
            stack.callback(context.close)
            address = pages[name].as_uri()

            def answer(route):
                if route.request.url.partition("#")[0] == address:
                    route.continue_()
                else:
                    asked.append(route.request.url)
                    route.abort()

            context.route("**/*", answer)
            page = context.new_page()
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.goto(address)
            return page

        yield opened
        assert (asked, said) == ([], [])


@pytest.mark.parametrize("name", made.NAMES)
def test_nothing_is_cut_or_broken_at_any_width(visit, name):
    page = visit(name)
    unfold(page)
    found = {}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        found[width] = cut(page)
    assert not any(found.values()), found


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", made.NAMES)
def test_axe_finds_nothing_and_everything_can_be_seen(visit, name, scheme):
    page = visit(name, color_scheme=scheme)
    unfold(page)
    assert (violations(page), faint(page)) == ([], [])
    dark = page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("name", WITH_FIGURES)
def test_the_pointer_reaches_every_value_and_the_value_is_said(visit, name):
    page = visit(name)
    assert ask(page, "hidden") == []
    titles = page.locator(".point title").all_text_contents()
    for number in range(0, len(titles), 10):
        page.mouse.move(*ask(page, "placeOf", number).values())
        [tip] = ask(page, "tip")
        assert tip.split() == titles[number].split()


@pytest.mark.parametrize("name", made.NAMES)
def test_the_keyboard_reaches_everything_and_the_value_is_said(visit, name):
    page = visit(name, viewport={"width": 390, "height": 800})
    page.keyboard.press("Tab")
    while stop := ask(page, "stop"):
        if stop["said"]:
            assert [tip.split() for tip in stop["tip"]] == [stop["said"].split()]
        page.keyboard.press("Tab")
    assert ask(page, "unreached") == []


@pytest.mark.parametrize("name", made.NAMES)
def test_folds_open_and_close_by_keyboard(visit, name):
    folds = visit(name).locator("details").all()
    for fold in folds:
        if not fold.evaluate("fold => fold.open"):
            fold.locator("> summary").press("Enter")
        assert fold.evaluate("fold => fold.open")
    for fold in reversed(folds):
        fold.locator("> summary").press("Enter")
        assert not fold.evaluate("fold => fold.open")


@pytest.mark.parametrize("name", ["smoke", "benchmark", "explore"])
def test_a_series_is_switched_off_and_on_by_its_key_and_paper_shows_all(visit, name):
    page = visit(name)
    for figure in page.locator("figure.plot:has(input)").all():
        for number, key in enumerate(figure.locator("input").all()):
            drawn = figure.locator(f".drawn .s{number}")
            assert displayed(drawn) == {True}
            key.press("Space")
            assert displayed(drawn) == {False}
            page.emulate_media(media="print")
            assert displayed(drawn) == {True}
            page.emulate_media(media="screen")
            figure.locator("label").nth(number).click()
            assert displayed(drawn) == {True}


def displayed(elements):
    return set(elements.evaluate_all("all => all.map(element => getComputedStyle(element).display !== 'none')"))


@pytest.mark.parametrize("name", made.NAMES)
def test_paper_shows_what_is_folded_and_no_controls(visit, name):
    page = visit(name, color_scheme="dark")
    page.emulate_media(media="print")
    assert not any(
        control.is_visible()
        for control in page.locator("summary, input, nav.contents, nav.siblings, details.code").all()
    )
    for fold in page.locator("details:is(.environment, .passed-checks, .values)").all():
        assert ask(page, "unprinted", fold.element_handle()) == []
    assert page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert faint(page) == []
    assert page.pdf().startswith(b"%PDF")
