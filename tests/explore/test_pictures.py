"""The maps say what the tensors say, in the rows and columns of the image."""

import re

import numpy as np
import pytest
import torch

from ivit_helpers.explore import pictures
from ivit_helpers.explore.looking import View
from ivit_helpers.explore.states import States
from ivit_helpers.measure.figures import patch_components
from tests.builders import SMALL
from tests.explore.test_states import looked


def test_the_attention_map_is_one_head_s_or_the_mean_without_the_class_token():
    weights = torch.arange(34.0).reshape(2, 17)
    np.testing.assert_array_equal(pictures.attention_map(weights, 2), np.arange(18, 34).reshape(4, 4))
    np.testing.assert_array_equal(pictures.attention_map(weights, 0), (np.arange(1, 17) + 8.5).reshape(4, 4))


def test_a_patch_is_most_like_itself_and_the_map_has_rows_and_columns():
    hidden = torch.randn(17, 8, generator=torch.Generator().manual_seed(0))
    hidden[1 + 9] = 3 * hidden[1 + 4]
    alike = pictures.similarity_map(hidden, 4)
    assert alike[1, 0] == pytest.approx(1)
    assert alike[2, 1] == pytest.approx(1), "patch 9 points the same way"
    assert (alike < 0.999).sum() == 14
    assert pictures.most(np.arange(12).reshape(3, 4) % 7, "6") == "6 in row 2, column 3"


def test_like_patches_have_like_colours_and_the_same_tokens_always_the_same():
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(2, 32, generator=generator)
    patches = kinds[torch.tensor([0, 1] * 8)] + 0.01 * torch.randn(16, 32, generator=generator)
    colours = np.asarray(patch_components(patches, 4)).reshape(16, 3).astype(int)
    one, other = colours[0::2, 0], colours[1::2, 0]
    assert max(one.min() - other.max(), other.min() - one.max()) > 100, "the first component tells the two kinds apart"
    rotated = patches @ torch.linalg.qr(torch.randn(32, 32, generator=generator)).Q
    np.testing.assert_allclose(
        np.asarray(patch_components(rotated, 4)).astype(int), np.asarray(patch_components(patches, 4)), atol=2
    )


@pytest.mark.parametrize("shape", [(4, 2), (16, 3), (16, 64), (1, 5)])
def test_the_colours_are_those_of_the_singular_vectors_whatever_the_shape(shape):
    patches = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    grid = int(shape[0] ** 0.5)
    image = np.asarray(patch_components(patches, grid)).astype(int)
    assert image.shape == (grid, grid, 3)
    centred = patches - patches.mean(dim=0)
    left, strengths, _ = torch.linalg.svd(centred, full_matrices=False)
    for colour in range(min(3, *shape) if shape[0] > 3 else 0):
        values = (left * strengths)[:, colour].reshape(grid, grid).numpy()
        values = values if np.abs(values.max()) >= np.abs(values.min()) else -values
        low, high = np.percentile(values, [2, 98])
        np.testing.assert_allclose(image[..., colour], np.clip(255 * (values - low) / (high - low), 0, 255), atol=2)


def test_values_that_are_not_finite_still_make_a_picture():
    patches = torch.full((16, 8), torch.nan)
    assert patch_components(patches, 4).size == (4, 4)
    assert pictures.most(np.full((4, 4), np.nan), "x") == "no value is finite"


def test_a_strip_has_the_first_the_last_and_the_chosen_block():
    assert pictures.strip_blocks(4, 2) == [1, 2, 3, 4]
    long = pictures.strip_blocks(48, 30)
    assert {1, 30, 48} <= set(long)
    assert len(long) <= pictures.STRIP + 1


def test_the_pictures_of_a_block_stand_beside_the_image_and_say_what_they_show(small_network, cpu):
    states, image = States(small_network, cpu), looked()
    html = pictures.view_panels(states, image, View(block=2, head=3, patch=6))._repr_html_()
    assert html.count("<figure>") == 4
    assert pictures.in_words(states, image, View(2, 3, 6)).startswith("In block 2 of 3, head 3: the class token gives ")
    assert "head 3" in html
    assert "row 2, column 3" in html
    assert 'x="2" y="1" width="1" height="1" class="marked"' in html
    share = pictures.attention_map(states.attention(image, 2), 3).max()
    assert f"{100 * share:.1f} %" in html
    strip = pictures.strip(states, image, View(3, 0, 0))
    assert list(strip.columns) == ["block 1", "block 2", "block 3"]
    assert len(re.findall("<figure>", strip._repr_html_())) == 9
    assert SMALL.grid == 4
