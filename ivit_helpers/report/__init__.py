"""Notebook -> HTML: run it, judge how it ended, render the page; figures and tables that the notebooks show."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ivit_helpers.report.ending import stoppable
    from ivit_helpers.report.execute import check_sockets, run_notebook
    from ivit_helpers.report.figure import Figure, SideBySide, Together, draw
    from ivit_helpers.report.gallery import Gallery
    from ivit_helpers.report.key_figure import KeyFigure, key_figures
    from ivit_helpers.report.page import record_in
    from ivit_helpers.report.panels import Panel, PanelColumns, Panels, coloured_patches, heat_map, photograph, scale_of
    from ivit_helpers.report.progress import tell
    from ivit_helpers.report.session import conclude
    from ivit_helpers.report.table import NOTHING, Facts, Sentence, Table, facts, number
    from ivit_helpers.report.theme import LIGHT, Theme, styled

__all__ = [
    "LIGHT", "NOTHING", "Facts", "Figure", "Gallery", "KeyFigure", "Panel", "PanelColumns", "Panels", "Sentence", "SideBySide", "Table",
    "Theme", "Together", "check_sockets", "coloured_patches", "conclude", "draw", "facts", "heat_map", "key_figures", "number",
    "photograph", "record_in", "run_notebook", "scale_of", "stoppable", "styled", "tell",
]  # fmt: skip

_MODULES = {
    "ending": ["stoppable"], "execute": ["check_sockets", "run_notebook"], "figure": ["Figure", "SideBySide", "Together", "draw"],
    "gallery": ["Gallery"], "key_figure": ["KeyFigure", "key_figures"], "page": ["record_in"],
    "panels": ["Panel", "PanelColumns", "Panels", "coloured_patches", "heat_map", "photograph", "scale_of"], "progress": ["tell"],
    "session": ["conclude"], "table": ["NOTHING", "Facts", "Sentence", "Table", "facts", "number"], "theme": ["LIGHT", "Theme", "styled"],
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a module when it is needed: a process for each card needs neither notebooks nor figures, which take seconds to import."""
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{module}"), name)
