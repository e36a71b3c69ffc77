"""The model card of some runs: a function of their records, in Markdown, in English or in Chinese."""

from ivit_helpers.card.card import model_card
from ivit_helpers.card.texts import Language

__all__ = ["Language", "model_card"]
