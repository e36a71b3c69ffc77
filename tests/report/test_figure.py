"""A figure is one picture for every scheme, says each of its values, and needs no script."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from ivit_helpers.report.figure import SideBySide, draw
from ivit_helpers.report.table import Table
from ivit_helpers.report.theme import DARK, LIGHT

HOSTILE = '<script>alert("&")</script> $x_1$ --> {% x %}'


def lines(axes, theme):
    axes.plot([1, 2, 4], [10, 20.5, 30], "-o", color=theme.series[0], label="fused")
    axes.plot([1, 2, 4], [5, 6, 7], "--s", color=theme.series[1], label="plain")
    axes.axhline(40, color=theme.ink, label="limit: 40")
    axes.set_xlabel("batch")
    axes.set_ylabel("images/s")
    axes.legend()


def parsed(figure):
    """The elements of a figure's HTML, which must be well formed, without its style."""
    html = figure._repr_html_().replace("<br>", "").replace("<wbr>", "").replace("&nbsp;", " ")
    html = re.sub(
        r"(<(?:input|img)[^>]*?)(\s)checked(\s[^>]*)>",
        r"\1\3/>",
        re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL),
    )
    return ET.fromstring(html)


def tagged(root, name):
    return [element for element in root.iter() if element.tag.rpartition("}")[2] == name]


def classes(element):
    return element.get("class", "").split()


def points(root):
    return [element for element in root.iter() if "point" in classes(element)]


def test_every_value_has_a_place_that_says_it_to_pointer_keyboard_and_screen_reader():
    root = parsed(draw(lines, "Speed", "alt"))
    titles = [tagged(point, "title")[0].text for point in points(root)]
    assert len(titles) == 6
    assert titles[1] == "fused\nbatch: 2\nimages/s: 20.5"
    for point in points(root):
        assert (point.get("tabindex"), point.get("role")) == ("0", "img")
        place = tagged(point, "rect")[0]
        assert float(place.get("width")) >= 10, "larger than the mark of 6"


def test_the_values_follow_as_a_table_that_is_folded():
    root = parsed(draw(lines, "Speed", "alt"))
    (fold,) = tagged(root, "details")
    rows = [[cell.text for cell in tagged(row, "td")] for row in tagged(fold, "tr")[1:]]
    assert rows[1] == ["fused", "2", "20.5"]
    assert len(rows) == 6
    assert fold.get("open") is None


def test_each_series_has_a_key_and_everything_of_a_series_has_its_class():
    root = parsed(draw(lines, "Speed", "alt"))
    keys = tagged(root, "label")
    assert [tagged(key, "span")[0].text for key in keys] == ["fused", "plain", "limit: 40"]
    assert [classes(tagged(key, "input")[0]) for key in keys] == [["k0"], ["k1"], ["k2"]]
    style = re.search(r"<style>(.*?)</style>", draw(lines, "Speed", "alt")._repr_html_(), re.DOTALL)[1]
    for number in range(3):
        assert any(f"s{number}" in classes(element) for element in root.iter()), "the series can be hidden"
        assert f".plot:has(.k{number}:not(:checked)) .s{number}{{display:none}}" in style
    screen = re.search(r"@media screen\{(\.ivit \.plot:has.*)\}", style)[1]
    assert ".k0:not(:checked)" in screen, "on paper every series is shown"


def test_a_single_series_cannot_be_switched_off():
    html = draw(lambda axes, theme: axes.plot([1, 2], [3, 4], "o", label="only"), "t", "alt")._repr_html_()
    assert "<input" not in html
    assert "only" in html


def test_the_picture_has_its_alternative_and_its_caption():
    root = parsed(draw(lines, "Speed & more", 'alt "text"'))
    (picture,) = [
        element for element in root.iter() if element.get("role") == "img" and element.get("aria-label") == 'alt "text"'
    ]
    assert tagged(picture, "text"), "its text is text"
    assert tagged(root, "figcaption")[0].text == "Speed & more"


def test_one_picture_has_the_colours_of_both_schemes():
    html = draw(lines, "Speed", "alt")._repr_html_()
    picture = html.partition("<figure")[2]
    assert not re.search(r"#[0-9a-f]{6}\b", picture), "no colour of its own"
    assert "var(--plot-0)" in picture
    for theme in (LIGHT, DARK):
        assert all(f"--plot-{number}:{colour};" in html for number, colour in enumerate(theme.series))
    assert '[data-jp-theme-light="false"] .ivit' in html
    assert "prefers-color-scheme:dark" in html


def test_no_two_figures_of_a_page_share_an_id_and_every_reference_is_to_its_own():
    figure = draw(lines, "Speed", "alt")
    html = SideBySide(figure, figure, draw(lines, "Again", "alt"))._repr_html_()
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', html)) <= set(ids)
    assert html.count("<style>") == 1


def test_nothing_outside_is_referred_to_and_nothing_runs():
    html = draw(lines, "Speed", "alt")._repr_html_()
    assert not re.search(r"<script|\son\w+=|javascript:|@import|https?://(?!www\.w3\.org)", html)
    assert all(target.startswith(("#", "data:image/png")) for target in re.findall(r'href="([^"]*)"', html))


def test_what_a_label_says_is_text():
    def plot(axes, theme):
        axes.plot([0, 1], [1, 2], "o", label=HOSTILE)
        axes.plot([0, 1], [1, 3], "o", label="other")
        axes.set_xticks([0, 1], [HOSTILE, "b"])
        axes.set_xlabel(HOSTILE)
        axes.text(0, 1, HOSTILE)

    root = parsed(draw(plot, HOSTILE, HOSTILE))
    assert not tagged(root, "script")
    assert sum(HOSTILE in (element.text or "") for element in tagged(root, "text")) == 3
    assert tagged(points(root)[0], "title")[0].text == f"{HOSTILE}\n{HOSTILE}: {HOSTILE}\n1"


def test_bars_and_whiskers_say_their_interval():
    def plot(axes, theme):
        axes.bar([0, 1], [2.0, 3.0], yerr=[[0.5, 1], [0.25, 1]], label="measured")
        axes.set_xticks([0, 1], ["one", "two"])

    def upright(axes, theme):
        axes.errorbar([97.5], [0], xerr=[[1.5], [0.5]], fmt="o", label="top")
        axes.set_yticks([0], ["top-1"])

    titles = [tagged(point, "title")[0].text for point in points(parsed(draw(plot, "t", "a")))]
    assert titles == ["one\n2 (1.5 to 2.25)", "two\n3 (2 to 4)"]
    assert tagged(points(parsed(draw(upright, "t", "a")))[0], "title")[0].text == "97.5 (96 to 98)\ntop-1"


def test_the_cells_of_a_small_matrix_say_their_counts():
    def plot(axes, theme):
        axes.imshow(np.array([[3, 0], [1, 5]]), label="images")
        axes.set_xticks([0, 1], ["cat", "dog"])
        axes.set_yticks([0, 1], ["cat", "dog"])
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")

    titles = [tagged(point, "title")[0].text for point in points(parsed(draw(plot, "t", "a")))]
    assert titles == [
        "predicted: cat\ntrue: cat\n3 images",
        "predicted: cat\ntrue: dog\n1 images",
        "predicted: dog\ntrue: dog\n5 images",
    ]


RANDOM = np.random.default_rng(0).random((2, 50_000))


@pytest.mark.parametrize(
    ("plot", "least"),
    [
        (lambda axes, theme: axes.scatter(*RANDOM, label="dots"), 5_000),
        (lambda axes, theme: axes.plot(RANDOM[0, :5_000], "o-", label="line"), 5_000),
        (lambda axes, theme: axes.imshow(np.eye(1000)), 1_000),
    ],
)
def test_a_picture_of_very_many_values_stays_small(plot, least):
    html = draw(plot, "t", "a")._repr_html_().partition("<figure")[2]
    assert least < len(html) < 120_000


def test_very_many_dots_have_the_colour_of_their_series_and_no_fill_of_black():
    html = draw(lambda axes, theme: axes.scatter(*RANDOM, color=theme.series[2], label="dots"), "t", "a")
    [dots] = [path for path in tagged(parsed(html), "path") if path.get("d", "").endswith("h0")]
    assert dots.get("style").startswith("fill: none; stroke: var(--plot-")


@pytest.mark.parametrize(("low", "high"), [(4e-7, 6e-7), (1e-7, 1e-3), (20, 90), (1, 1e6), (3, 5)])
def test_a_logarithmic_axis_has_a_few_ticks_that_can_be_read(low, high):
    def plot(axes, theme):
        axes.plot([0, 1], [low, high], "o")
        axes.set_yscale("log")
        axes.set_xticks([])

    texts = [element.text for element in tagged(parsed(draw(plot, "t", "a")), "text")]
    assert 3 <= len(texts) <= 9
    assert not any("mathdefault" in text or "$" in text or "e-" in text for text in texts)


def test_marks_at_the_upper_end_are_whole():
    def plot(axes, theme):
        axes.plot([0, 1], [5.99, 6], "o", label="a")
        axes.set_ylim(bottom=0)

    place = tagged(points(parsed(draw(plot, "t", "a")))[1], "rect")[0]
    assert float(place.get("y")) + float(place.get("height")) / 2 > 14


def test_numbers_of_a_table_stand_on_the_right_with_their_unit_in_the_heading():
    html = Table(
        [{"name": "a", "share": "12.5 %", "n": "1,000"}, {"name": "b", "share": "–", "n": "7"}], "c"
    )._repr_html_()
    root = parsed(Table([{"name": "a", "share": "12.5 %"}, {"name": "<b>", "share": "–"}], "c"))
    assert [head.text for head in tagged(root, "th")] == ["name", "share, %"]
    assert [cell.text for cell in tagged(root, "td")] == ["a", "12.5", "<b>", "–"]
    assert [cell.get("class") for cell in tagged(root, "td")] == [None, "n", None, "n"]
    assert ">1,000<" in html
