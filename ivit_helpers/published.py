"""What others published, from data/published.json: reference lines, never measurements."""

import json
from typing import Any

from ivit_helpers.images import EMBEDDED
from ivit_helpers.network import InternViTConfig


def _all() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EMBEDDED / "published.json").read_text())
    return content


def speeds(config: InternViTConfig) -> list[dict[str, Any]]:
    """Published speeds of exactly this network, each with label, source and images_per_s by batch size; empty for any other."""
    published = _all()
    same = all(getattr(config, name) == value for name, value in published["network"].items())
    return list(published["speeds"]) if same else []


def least_top1(model: str, image_set: str) -> float | None:
    """The top-1 fraction that the embedded miniature must reach on its own held-out digits; None for any other pair."""
    miniature = _all()["miniature"]
    return float(miniature["least_top1"]) if (model, image_set) == (miniature["model"], miniature["set"]) else None
