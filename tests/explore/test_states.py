"""What is kept of a forward pass is the network's own, stays within its limit, and can always be asked for again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ivit_helpers.errors import InputError
from ivit_helpers.explore.looking import View, look_at, place_of, view_of
from ivit_helpers.explore.states import States
from ivit_helpers.images.transform import ImageTransform
from ivit_helpers.model.network import InternViT
from ivit_helpers.record.parameters import ExploreParameters
from tests.builders import FUSED, SMALL, randomised


def looked(seed: int = 0):
    noise = np.random.default_rng(seed).integers(0, 256, (70, 60, 3), dtype=np.uint8)
    return look_at(f"noise {seed}", Image.fromarray(noise), ImageTransform(56, 56))


def passes(network: InternViT) -> list[int]:
    """The blocks that are computed from now on, in order."""
    seen = []
    for number, layer in enumerate(network.encoder.layers, 1):
        layer.register_forward_hook(lambda *_, number=number: seen.append(number))
    return seen


@pytest.fixture
def states(small_network, cpu) -> States:
    return States(small_network, cpu)


def test_the_state_after_a_block_is_the_network_s_own(states, small_network):
    image = looked()
    states.ask(image, range(4))
    torch.testing.assert_close(states.after(image, 3)[None], small_network(image.pixels), rtol=0, atol=0)
    torch.testing.assert_close(states.after(image, 0)[None], small_network.embeddings(image.pixels), rtol=0, atol=0)


def test_one_forward_pass_answers_every_question_about_an_image(states, small_network):
    image, computed = looked(), passes(small_network)
    states.ask(image, states.all_that_fit())
    for block in (1, 2, 3):
        states.after(image, block)
        states.attention(image, block)
    assert computed == [1, 2, 3]


def test_a_state_that_is_not_kept_is_computed_from_the_nearest_earlier_one(states, small_network):
    image = looked()
    states.ask(image, [1])
    computed = passes(small_network)
    found = states.after(image, 3)
    assert computed == [2, 3]
    torch.testing.assert_close(found[None], small_network(image.pixels))


def test_no_more_is_kept_than_the_limit_and_what_went_is_computed_again(small_network, cpu):
    one = SMALL.tokens * SMALL.hidden_size * 4
    states = States(small_network, cpu, most=3 * one)
    assert len(states.all_that_fit()) == 3
    assert states.all_that_fit()[-1] == 3
    for seed in range(4):
        states.ask(looked(seed), states.all_that_fit())
        assert states.bytes <= 3 * one
    torch.testing.assert_close(states.after(looked(0), 2)[None], States(small_network, cpu).after(looked(0), 2)[None])
    assert States(small_network, cpu).all_that_fit() == [0, 1, 2, 3]


def test_two_images_are_never_taken_for_each_other(states):
    first, second = looked(0), looked(1)
    assert not torch.equal(states.after(first, 1), states.after(second, 1))


def test_the_attention_is_that_of_softmax_over_the_block_s_own_queries_and_keys(small_network, cpu, states):
    image, seen = looked(), []

    def recording(q, k, v):
        seen.append(torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, dim=-1)[:, :, 0])
        return FUSED.attention(q, k, v)

    small_network.sharing_weights(replace(small_network.kernels, attention=recording))(image.pixels)
    for block, expected in enumerate(seen, 1):
        torch.testing.assert_close(states.attention(image, block)[None], expected)
        assert states.attention(image, block).sum(dim=-1) == pytest.approx(torch.ones(4))


def test_a_device_that_cannot_compute_it_is_one_sentence(states, small_network):
    def refuse(*_):
        raise RuntimeError("no kernel\nfor this")

    small_network.encoder.layers[1].register_forward_hook(refuse)
    with pytest.raises(
        InputError, match="The forward pass fails on this device: RuntimeError: no kernel; the smoke notebook looks"
    ):
        states.after(looked(), 3)


def test_zero_means_the_last_block_all_heads_and_the_patch_in_the_middle():
    assert view_of(ExploreParameters(), SMALL) == View(block=3, head=0, patch=10)
    assert place_of(10, 4) == "row 3, column 3"
    assert view_of(ExploreParameters(block=2, attention_head=4, patch=1), SMALL) == View(2, 4, 0)


@pytest.mark.parametrize(("name", "most"), [("block", 3), ("attention_head", 4), ("patch", 16)])
def test_a_view_that_the_network_does_not_have_is_refused(name, most):
    view_of(ExploreParameters(**{name: most}), SMALL)
    with pytest.raises(InputError, match=f"{name}={most + 1} is not in this network: it has {most}, counted from 1"):
        view_of(ExploreParameters(**{name: most + 1}), SMALL)


def test_an_image_that_is_too_narrow_is_one_sentence():
    with pytest.raises(InputError, match="line.png cannot be shown to the network"):
        look_at("line.png", Image.new("RGB", (1, 4000)), ImageTransform(56, 56))


def test_a_layer_norm_network_without_normalised_queries_is_looked_at_too(cpu):
    config = replace(SMALL, norm_type="layer_norm", qk_normalization=False, qkv_bias=True)
    weights = States(randomised(config), cpu).attention(looked(), 2)
    assert tuple(weights.shape) == (4, SMALL.tokens)
    assert weights.sum(dim=-1) == pytest.approx(torch.ones(4))
