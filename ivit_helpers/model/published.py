"""What others published, from data/published.json: reference lines, never measurements."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from ivit_helpers.model.network import InternViTConfig
from ivit_helpers.paths import DATA


def _all() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DATA / "published.json").read_text())
    return content


def _same_network(config: InternViTConfig) -> bool:
    return all(getattr(config, name) == value for name, value in _all()["network"].items())


def published_speeds(config: InternViTConfig) -> list[dict[str, Any]]:
    """Published speeds of exactly this network, each with label, source and images_per_s by batch size; empty for any other."""
    return list(_all()["speeds"]) if _same_network(config) else []


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


def published_accuracy(config: InternViTConfig, image_set: str) -> PublishedAccuracy | None:
    """The published accuracy of exactly this network on a set; None for any other pair."""
    published = _all()["accuracy"]
    row = published.get(image_set)
    if not isinstance(row, dict) or not _same_network(config):
        return None
    labelled: int = row["labelled"] if "labelled" in row else row["images"]
    return PublishedAccuracy(
        row["images"], labelled, row["top1"], row["top5"], published["tolerance"], published["source"]
    )


def repository(model: str) -> dict[str, str]:
    """`base_model` (its hub id) and `license` of a published model, by the name of its folder or its hub id; empty for any other."""
    return dict(_all()["repositories"].get(model.rpartition("/")[2], {}))


def least_top1(model: str, image_set: str) -> float | None:
    """The top-1 fraction that the embedded miniature must reach on its own held-out digits; None for any other pair."""
    miniature = _all()["miniature"]
    return float(miniature["least_top1"]) if (model, image_set) == (miniature["model"], miniature["set"]) else None
