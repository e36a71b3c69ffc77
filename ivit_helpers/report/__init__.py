"""Notebook -> HTML: run it, judge how it ended, render the page; figures and tables that the notebooks show."""
