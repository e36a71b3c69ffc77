import dataclasses

import pytest

from ivit_helpers.images.imagenet import RULES
from ivit_helpers.model import published
from ivit_helpers.model.network import SHAPES

OFFICIAL = SHAPES["6b-224"]


@pytest.mark.parametrize("name", RULES)
def test_every_set_has_its_published_accuracy_for_exactly_this_network(name):
    found = published.published_accuracy(OFFICIAL, name)
    assert 0.6 < found.top1 < found.top5 < 1
    assert found.images >= 7500
    assert "classification/README.md" in found.source
    assert published.published_accuracy(dataclasses.replace(OFFICIAL, image_size=448), name) is None


@pytest.mark.parametrize("name", ["digits", "source", "tolerance", "folder"])
def test_nothing_is_published_for_any_other_set(name):
    assert published.published_accuracy(OFFICIAL, name) is None
