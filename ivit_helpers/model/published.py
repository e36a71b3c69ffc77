"""What others published, from data/published.json: reference lines, never measurements."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from ivit_helpers.model.network import InternViTConfig
from ivit_helpers.paths import DATA


@dataclass(frozen=True)
class PublishedAccuracy:
    """What the authors measured on one image set, as fractions of the labelled images."""

    images: int
    """How many the set has, those without a label included"""
    labelled: int
    top1: float
    top5: float
    tolerance: float
    """How far another correct run on the same images may be away; the authors' own reruns moved by up to 0.0002"""
    source: str

    def best(self, k: Literal[1, 5]) -> float:
        """Top-k as a fraction."""
        return self.top1 if k == 1 else self.top5


@cache
def _published() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DATA / "published.json").read_text())
    return content


def _is_published(config: InternViTConfig) -> bool:
    return all(getattr(config, name) == value for name, value in _published()["network"].items())


def published_speeds(config: InternViTConfig) -> list[dict[str, Any]]:
    """Published speeds of exactly this network: label, source and images_per_s by batch size; empty for any other."""
    return list(_published()["speeds"]) if _is_published(config) else []


def published_accuracy(config: InternViTConfig, image_set: str) -> PublishedAccuracy | None:
    """The published accuracy of exactly this network on a set; None for any other pair."""
    accuracy = _published()["accuracy"]
    row = accuracy.get(image_set)
    if not isinstance(row, dict) or not _is_published(config):
        return None
    every = {"labelled": row["images"], "tolerance": accuracy["tolerance"], "source": accuracy["source"]}
    return PublishedAccuracy(**(every | row))


def repository(model: str) -> dict[str, str]:
    """`base_model` (a hub id) and `license` of a published model, by its folder's name or its hub id; else empty."""
    return dict(_published()["repositories"].get(model.rpartition("/")[2], {}))


def least_top1(model: str, image_set: str) -> float | None:
    """The top-1 that the embedded miniature must reach on its own held-out digits; None for any other pair."""
    miniature = _published()["miniature"]
    return float(miniature["least_top1"]) if (model, image_set) == (miniature["model"], miniature["set"]) else None
