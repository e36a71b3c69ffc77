from dataclasses import replace

import pytest
import torch

from ivit_helpers.device.device import Device
from ivit_helpers.errors import InputError
from ivit_helpers.measure import peer
from ivit_helpers.measure.launches import audited
from ivit_helpers.model.kernels import PLAIN, reference_dtype, relative_error
from ivit_helpers.model.network import SHAPES, ClassificationHead, InternViT, InternViTConfig
from tests.builders import FUSED, SMALL, randomised

LAYER_NORM = InternViTConfig(64, 3, 4, 128, 56, norm_type="layer_norm", qk_normalization=False, qkv_bias=True)


def distance(config, dtype=torch.float32, kernels=None):
    """(ours, transformers') relative error against float64 for float32, float32 for bfloat16, on shared random weights."""
    network = randomised(config).to(dtype)
    pixels = torch.randn(2, 3, config.image_size, config.image_size, generator=torch.Generator().manual_seed(1))
    wide = reference_dtype(dtype)
    ours = network.sharing_weights(kernels) if kernels else network
    exact = InternViT(config).to(wide)
    exact.load_state_dict({name: tensor.to(wide) for name, tensor in network.state_dict().items()})
    with torch.inference_mode():
        expected = exact.eval()(pixels)
        return [relative_error(run(pixels), expected) for run in (ours, peer.Peer(network))]


def test_the_published_network_has_the_published_number_of_tensors_parameters_and_operations():
    with torch.device("meta"):
        state = InternViT(SHAPES["6b-224"]).state_dict()
    assert len(state) == 628
    assert sum(tensor.numel() for tensor in state.values()) == 5_902_793_600
    assert SHAPES["6b-224"].flops_per_image / 2e9 == pytest.approx(1536.6, abs=0.1)


def test_the_6b_network_at_448_pixels_has_45_blocks():
    with torch.device("meta"):
        network = InternViT(SHAPES["6b-448"])
    assert len(network.encoder.layers) == 45
    assert sum(tensor.numel() for tensor in network.state_dict().values()) == 45 * 122_918_400 + 3200 * (
        1 + 1025 + 3 * 14**2 + 1
    )


@pytest.mark.parametrize("config", [SMALL, LAYER_NORM], ids=["rms_norm", "layer_norm"])
@pytest.mark.parametrize("kernels", [None, FUSED], ids=["plain", "fused"])
def test_it_agrees_with_transformers_in_float32(config, kernels):
    ours, theirs = distance(config, kernels=kernels)
    assert ours <= 1e-5
    assert theirs <= 1e-5


def test_in_bfloat16_it_rounds_no_worse_than_transformers():
    ours, theirs = distance(SMALL, torch.bfloat16)
    assert ours <= 1.1 * theirs


def test_normalising_the_key_with_the_querys_weight_changes_the_answer():
    # Exchanging the two weights would not: each channel of the scores takes their product.
    network = randomised(SMALL)
    state = {name: network.state_dict()[name.replace("k_norm", "q_norm")] for name in network.state_dict()}
    other = InternViT(SMALL).eval()
    other.load_state_dict(state)
    pixels = torch.randn(1, 3, 56, 56)
    with torch.inference_mode():
        assert relative_error(other(pixels), network(pixels)) > 1e-4


def test_a_block_with_an_accelerators_fused_kernels_is_twelve_launches_and_copies_nothing(cpu, small_network):
    """Four norms, four linears, attention, GELU, and two residuals with their layer scale. (The CPU has others of its own.)"""
    kernels = replace(PLAIN, **Device.fused_operators(cpu))
    block = small_network.sharing_weights(kernels).encoder.layers[0]
    tokens = torch.randn(1, SMALL.tokens, SMALL.hidden_size)
    with cpu.inference():
        calls = audited(lambda: block(tokens), cpu).calls
    assert calls == {
        ("aten::rms_norm", "cpu"): 4, ("aten::linear", "cpu"): 4, ("aten::addcmul", "cpu"): 2,
        ("aten::scaled_dot_product_attention", "cpu"): 1, ("aten::gelu", "cpu"): 1,
    }  # fmt: skip


def test_another_image_size_resizes_the_position_embedding():
    with torch.inference_mode():
        assert randomised(SMALL)(torch.randn(1, 3, 70, 84)).shape == (1, 1 + 5 * 6, 64)


def test_a_twin_with_other_kernels_shares_every_tensor(small_network):
    twin = small_network.sharing_weights(FUSED)
    for (name, ours), theirs in zip(small_network.state_dict().items(), twin.state_dict().values(), strict=True):
        assert ours.data_ptr() == theirs.data_ptr(), name


def test_the_head_is_class_token_and_mean_patch_token_through_batchnorm_and_linear():
    head = ClassificationHead(4, 3).eval()
    head.norm.running_mean.normal_()
    head.norm.running_var.uniform_(0.5, 2)
    hidden = torch.randn(2, 5, 4)
    features = torch.cat([hidden[:, 0], hidden[:, 1:].mean(1)], 1)
    normed = (features - head.norm.running_mean) / (head.norm.running_var + 1e-6).sqrt()
    torch.testing.assert_close(head(hidden), normed @ head.head.weight.T + head.head.bias)


def test_an_impossible_config_is_refused_in_a_sentence():
    with pytest.raises(InputError, match="64 is not a multiple of num_attention_heads 7"):
        InternViTConfig(hidden_size=64, num_attention_heads=7)
    with pytest.raises(InputError, match="norm_type is .batch_norm.: Input should be"):
        InternViTConfig(norm_type="batch_norm")
