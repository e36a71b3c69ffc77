"""The nearest images are those with the most similar class tokens, and the image itself is none of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from ivit_helpers.errors import InputError
from ivit_helpers.explore.gallery import gallery_images, gallery_of, nearest
from ivit_helpers.explore.looking import look_at
from ivit_helpers.explore.scores import best_answers, shortened
from ivit_helpers.images.folders import digits
from ivit_helpers.record.parameters import ExploreParameters
from ivit_helpers.weights.loading import load
from ivit_helpers.weights.sources import find


@pytest.fixture
def loaded(model_folder, cpu):
    return load(find(str(model_folder)), cpu, torch.float32)


@pytest.fixture
def folder(tmp_path):
    """Four images in two class folders, and a file that is none."""
    for number, name in enumerate(["cat/a.png", "cat/b.png", "dog/c.png", "dog/d.png"]):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (56, 56, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "set" / name)
    (tmp_path / "set" / "dog" / "e.png").write_bytes(b"no image")
    return tmp_path / "set"


def test_the_order_is_that_of_the_cosines_and_the_image_itself_is_left_out(loaded, folder):
    gallery = gallery_of(loaded, gallery_images(ExploreParameters(gallery=str(folder))))
    assert (len(gallery.decoded), gallery.unreadable) == (4, 1)
    image = look_at("b", Image.open(folder / "cat" / "b.png").convert("RGB"), loaded.checkpoint.transform)
    token = loaded.network(image.pixels)[0, 0]
    torch.testing.assert_close(gallery.tokens[1], token, msg="the class token of b.png")
    found = [near for _, near in nearest(gallery, image, token)]
    assert {near.name for near in found} == {"cat/a.png", "dog/c.png", "dog/d.png"}
    assert [near.similarity for near in found] == sorted((near.similarity for near in found), reverse=True)
    assert {near.name: near.label for near in found}["dog/c.png"] == "dog"


def test_a_gallery_without_class_folders_has_no_labels_and_a_limit_draws(tmp_path, folder):
    for number, path in enumerate(folder.rglob("*.png")):
        path.rename(folder / f"{number}.png")
    asked = ExploreParameters(gallery=str(folder), limit=2, seed=3)
    assert len(gallery_images(asked)) == 2
    assert gallery_images(asked).labels == [None, None]
    assert gallery_images(asked).paths == gallery_images(asked).paths
    assert len(gallery_images(ExploreParameters(limit=0))) == len(digits())


@pytest.mark.parametrize(("make", "says"), [(None, "There is no folder"), ("empty", "There are no images in")])
def test_a_gallery_that_is_not_there_is_one_sentence(tmp_path, make, says):
    if make:
        (tmp_path / "set").mkdir()
    with pytest.raises(InputError, match=says):
        gallery_images(ExploreParameters(gallery=str(tmp_path / "set")))


def test_a_gallery_of_damaged_images_is_one_sentence(loaded, tmp_path):
    (tmp_path / "one.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="Not one of the 1 images of the gallery"):
        gallery_of(loaded, gallery_images(ExploreParameters(gallery=str(tmp_path))))


def test_the_answers_are_the_highest_scores_in_order_and_add_up():
    found = best_answers(torch.tensor([0.0, 3.0, 1.0]), ("a", "b", "c"))
    assert [one.name for one in found] == ["b", "c", "a"]
    assert sum(one.score for one in found) == pytest.approx(1)
    assert best_answers(torch.tensor([torch.nan, 1.0]), ("a", "b"))[0].score is None
    assert len(shortened("x" * 100)) < 30
