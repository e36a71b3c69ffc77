"""Pictures of patches: small, in the colours of the page, and with words for who cannot see them."""

import re

import numpy as np
import pytest
from PIL import Image

from ivit_helpers.record.record import SmokeRecord
from ivit_helpers.report.page import WIDGET, report_html
from ivit_helpers.report.panels import Panel, PanelColumns, Panels, coloured_patches, heat_map, photograph

HOSTILE = '"><script>alert(1)</script>'


def cells(svg):
    """How dark each cell of a map is, by (row, column), read from its paths."""
    found = {}
    for path, opacity in re.findall(r'<path d="([^"]*)" style="fill:var\(--plot-0\);fill-opacity:([\d.]+)"', svg):
        for column, row, length in re.findall(r"M(\d+) (\d+)h(\d+)v1", path):
            found |= {(int(row), int(column) + step): float(opacity) for step in range(int(length))}
    return found


def test_every_cell_of_a_map_is_as_dark_as_its_value():
    values = np.random.default_rng(0).random((5, 5))
    drawn = cells(heat_map(values, 0.0, 1.0, "a map"))
    for place, value in np.ndenumerate(values):
        assert drawn.get(place, 0) == pytest.approx(value, abs=1 / 24)


def test_values_beyond_the_scale_are_its_ends_and_one_value_everywhere_is_no_error():
    drawn = cells(heat_map(np.array([[-1.0, 0.5], [2.0, 1.0]]), 0.0, 1.0, ""))
    assert drawn == {(0, 1): 0.5, (1, 0): 1, (1, 1): 1}
    assert cells(heat_map(np.zeros((2, 2)), 0.0, 0.0, "")) == {}


def test_what_is_not_finite_is_crossed_out_and_not_drawn_as_a_value():
    svg = heat_map(np.array([[np.nan, 1.0], [np.inf, 0.0]]), 0.0, 1.0, "")
    assert cells(svg) == {(0, 1): 1}
    assert re.search(r'd="M0 0l1 1m0-1l-1 1M0 1l1 1m0-1l-1 1" style="stroke:var\(--bad\)', svg)


def test_a_patch_is_marked_in_its_row_and_column():
    assert 'x="3" y="2" width="1" height="1" class="marked"' in photograph(Image.new("RGB", (8, 8)), "alt", 11, 4)
    assert "marked" not in photograph(Image.new("RGB", (8, 8)), "alt")


def test_a_map_of_1024_patches_takes_less_than_20_kb():
    assert len(heat_map(np.random.default_rng(0).random((32, 32)), 0.0, 1.0, "")) < 20_000


def test_names_are_text_and_pictures_have_words():
    panels = [Panel(coloured_patches(Image.new("RGB", (2, 2)), HOSTILE), HOSTILE, (HOSTILE, "1"))]
    for html in (Panels(panels, HOSTILE)._repr_html_(), PanelColumns({HOSTILE: panels}, HOSTILE)._repr_html_()):
        assert "<script" not in html
        assert html.count("alert(1)") == 5 - (Panels(panels, HOSTILE)._repr_html_() == html)
    assert 'alt="&quot;&gt;' in panels[0].picture
    assert 'role="img" aria-label="words"' in heat_map(np.ones((1, 1)), 0, 1, "words")


def test_a_page_shows_what_stands_in_a_widget_s_place():
    import nbformat

    data = {WIDGET: {"model_id": "0", "version_major": 2, "version_minor": 0}, "text/html": "<p>as a picture</p>"}
    cell = nbformat.v4.new_code_cell("1", execution_count=1, outputs=[nbformat.v4.new_output("execute_result", data)])
    html = report_html(SmokeRecord(started="2026-01-02T03:04:05+00:00"), nbformat.v4.new_notebook(cells=[cell]))
    assert "<p>as a picture</p>" in html
    assert "widget-view" not in html
