from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ivit_helpers.device import selection
from ivit_helpers.measure import fidelity
from ivit_helpers.model import kernels
from ivit_helpers.model.network import InternViT
from tests.builders import FUSED, SMALL, randomised


def judged(network, dtype, fault=None):
    """The agreement of a network with the reference of the sound one."""
    pixels = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(3))
    sound = network.to(dtype)
    expected = fidelity.reference_states(sound, pixels, dtype)
    other = InternViT(SMALL).to(dtype).eval()
    other.load_state_dict(sound.state_dict())
    if fault:
        fault(other)
    found = fidelity.hidden_states(other, pixels, selection.select("cpu"))
    return expected.agreement(found[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sound_network_agrees(dtype):
    assert judged(randomised(SMALL), dtype).passed


def key_normalised_with_the_querys_weight(network):
    for layer in network.encoder.layers:
        layer.attn.k_norm.weight = layer.attn.q_norm.weight


def lost_layer_scale(network):
    network.encoder.layers[1].ls2.data.fill_(1)


def uniform_attention(network):
    for layer in network.encoder.layers:
        layer.attn.q_norm.weight.data.zero_()


def with_kernels(network, **parts):
    for module in network.modules():
        if hasattr(module, "kernels"):
            module.kernels = replace(module.kernels, **parts)


def tanh_gelu(network):
    with_kernels(network, gelu=lambda x: F.gelu(x, approximate="tanh"))


def wrong_scale(network):
    width = SMALL.hidden_size // SMALL.num_attention_heads
    with_kernels(
        network, attention=lambda q, k, v: kernels.plain_attention(q * width**0.5 / SMALL.hidden_size**0.5, k, v)
    )


def not_a_number(network):
    network.encoder.layers[2].ls1.data[0] = float("nan")


GROSS = [lost_layer_scale, uniform_attention, wrong_scale, not_a_number]


@pytest.mark.parametrize("fault", [*GROSS, key_normalised_with_the_querys_weight, tanh_gelu])
def test_a_fault_exceeds_what_rounding_explains(fault):
    assert not judged(randomised(SMALL), torch.float32, fault).passed


@pytest.mark.parametrize("fault", GROSS)
def test_a_gross_fault_exceeds_what_rounding_explains_in_bfloat16_too(fault):
    assert not judged(randomised(SMALL), torch.bfloat16, fault).passed


def blocks_alone(network, fault=None):
    """Which blocks alone agree with the reference, where `fault` changes the network's code and leaves its weights."""
    pixels = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(3))
    cpu, dtype = selection.select("cpu"), network.embeddings.class_embedding.dtype
    if fault:
        fault(network)
    return [
        block.passed for block in fidelity.block_errors(network, fidelity.reference_states(network, pixels, dtype), cpu)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "config", [SMALL, replace(SMALL, norm_type="layer_norm", qk_normalization=False, qkv_bias=True)]
)
def test_each_block_of_a_sound_network_alone_agrees_with_the_reference(dtype, config):
    sound = randomised(config).to(dtype)
    assert blocks_alone(sound) == blocks_alone(sound.sharing_weights(FUSED)) == [True] * config.num_hidden_layers


def keys_take_the_queries_norm(network):
    network.encoder.layers[1].attn.k_norm.forward = network.encoder.layers[1].attn.q_norm.forward


def tanh_gelu_in_one(network):
    with_kernels(network.encoder.layers[1], gelu=lambda x: F.gelu(x, approximate="tanh"))


def wrong_scale_in_one(network):
    with_kernels(network.encoder.layers[1], attention=lambda q, k, v: kernels.plain_attention(1.01 * q, k, v))


def uniform_attention_in_one(network):
    with_kernels(network.encoder.layers[1], attention=lambda q, k, v: v.mean(-2, keepdim=True).expand(v.shape))


def scale_forgotten(network):
    scales = network.encoder.layers[1].ls2
    network.encoder.layers[1].mlp.register_forward_hook(lambda *given: given[-1] / scales)


def not_a_number_made(network):
    network.encoder.layers[1].mlp.register_forward_hook(lambda *given: given[-1] * float("nan"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "fault",
    [
        keys_take_the_queries_norm,
        tanh_gelu_in_one,
        wrong_scale_in_one,
        uniform_attention_in_one,
        scale_forgotten,
        not_a_number_made,
    ],
)
def test_a_fault_in_one_block_is_found_in_that_block_in_any_dtype(fault, dtype):
    assert blocks_alone(randomised(SMALL).to(dtype), fault) == [True, False, *[True] * (SMALL.num_hidden_layers - 2)]


def test_the_reference_has_a_state_after_the_embeddings_and_after_every_block():
    expected = fidelity.reference_states(randomised(SMALL), torch.randn(1, 3, 56, 56), torch.float32)
    assert len(expected.exact) == len(expected.peer) == SMALL.num_hidden_layers + 1
    assert expected.exact[0].dtype == torch.float64
