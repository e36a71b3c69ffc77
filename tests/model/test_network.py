from dataclasses import replace

import pytest
import torch

from ivit_helpers.device.device import Device
from ivit_helpers.errors import InputError
from ivit_helpers.images.imagenet import RULES
from ivit_helpers.measure.launches import audited
from ivit_helpers.measure.peer import Peer
from ivit_helpers.model.kernels import PLAIN, reference_dtype, relative_error
from ivit_helpers.model.network import SHAPES, ClassificationHead, InternViT, InternViTConfig
from ivit_helpers.model.published import published_accuracy
from tests.builders import FUSED, SMALL, randomised

LAYER_NORM = InternViTConfig(64, 3, 4, 128, 56, norm_type="layer_norm", qk_normalization=False, qkv_bias=True)


@pytest.mark.parametrize(
    ("shape", "tensors", "parameters"),
    [("6b-224", 628, 5_902_793_600), ("6b-448", 589, 45 * 122_918_400 + 3200 * (1 + 1025 + 3 * 14**2 + 1))],
)
def test_a_published_network_has_the_published_number_of_tensors_and_parameters(shape, tensors, parameters):
    with torch.device("meta"):
        state = InternViT(SHAPES[shape]).state_dict()
    assert len(state) == tensors
    assert sum(tensor.numel() for tensor in state.values()) == parameters
    assert SHAPES["6b-224"].flops_per_image / 2e9 == pytest.approx(1536.6, abs=0.1)


@pytest.mark.parametrize("config", [SMALL, LAYER_NORM], ids=["rms_norm", "layer_norm"])
@pytest.mark.parametrize("kernels", [PLAIN, FUSED], ids=["plain", "fused"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_it_rounds_no_worse_than_transformers(config, kernels, dtype):
    network = randomised(config).to(dtype)
    pixels = torch.randn(2, 3, config.image_size, config.image_size, generator=torch.Generator().manual_seed(1))
    exact = InternViT(config).to(reference_dtype(dtype)).eval()
    exact.load_state_dict(network.state_dict())
    with torch.inference_mode():
        expected = exact(pixels)
        ours, theirs = (
            relative_error(run(pixels), expected) for run in (network.sharing_weights(kernels), Peer(network))
        )
    assert ours <= (1e-5 if dtype == torch.float32 else 1.1 * theirs)
    assert theirs <= (1e-5 if dtype == torch.float32 else 0.1)


def test_normalising_the_key_with_the_querys_weight_changes_the_answer():
    # Exchanging the two weights would not: each channel of the scores takes their product.
    network, other = randomised(SMALL), InternViT(SMALL).eval()
    state = network.state_dict()
    other.load_state_dict({name: state[name.replace("k_norm", "q_norm")] for name in state})
    pixels = torch.randn(1, 3, 56, 56)
    with torch.inference_mode():
        assert relative_error(other(pixels), network(pixels)) > 1e-4


def test_a_block_with_an_accelerators_fused_kernels_is_twelve_launches_and_copies_nothing(cpu, small_network):
    """Four norms, four linears, attention, GELU, two residuals with their layer scale. (The CPU has its own.)"""
    kernels = replace(PLAIN, **Device.fused_operators(cpu))
    block = small_network.sharing_weights(kernels).encoder.layers[0]
    tokens = torch.randn(1, SMALL.tokens, SMALL.hidden_size)
    with cpu.inference():
        calls = audited(lambda: block(tokens), cpu).calls
    expected = {"rms_norm": 4, "linear": 4, "addcmul": 2, "scaled_dot_product_attention": 1, "gelu": 1}
    assert calls == {(f"aten::{name}", "cpu"): count for name, count in expected.items()}


def test_another_image_size_resizes_the_position_embedding():
    with torch.inference_mode():
        assert randomised(SMALL)(torch.randn(1, 3, 70, 84)).shape == (1, 1 + 5 * 6, 64)


def test_a_twin_with_other_kernels_shares_every_tensor(small_network):
    twin = small_network.sharing_weights(FUSED).state_dict()
    assert all(tensor.data_ptr() == twin[name].data_ptr() for name, tensor in small_network.state_dict().items())


def test_the_head_is_class_token_and_mean_patch_token_through_batchnorm_and_linear():
    head = ClassificationHead(4, 3).eval()
    head.norm.running_mean.normal_()
    head.norm.running_var.uniform_(0.5, 2)
    hidden = torch.randn(2, 5, 4)
    features = torch.cat([hidden[:, 0], hidden[:, 1:].mean(1)], 1)
    normed = (features - head.norm.running_mean) / (head.norm.running_var + 1e-6).sqrt()
    torch.testing.assert_close(head(hidden), normed @ head.head.weight.T + head.head.bias)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_attention_heads": 7}, "config.json: hidden_size 3200 is not a multiple of num_attention_heads 7."),
        (
            {"norm_type": "batch_norm"},
            "config.json: norm_type is 'batch_norm': Input should be 'rms_norm' or 'layer_norm'.",
        ),
        ({"num_hidden_layers": 10**6}, "config.json: num_hidden_layers is 1000000: .* less than or equal to 256."),
        ({"hidden_size": "64"}, "config.json: hidden_size is '64': Input should be a valid integer."),
        ({"qkv_bias": 1}, "config.json: qkv_bias is 1: Input should be a valid boolean."),
    ],
)
def test_an_impossible_config_is_refused_in_a_sentence(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        InternViTConfig(**changes)


def test_accuracies_are_published_for_exactly_this_network():
    official = SHAPES["6b-224"]
    for name in RULES:
        accuracy = published_accuracy(official, name)
        assert 0.6 < accuracy.top1 < accuracy.top5 < 1
        assert accuracy.labelled == (46_837 if name == "real" else accuracy.images)
        assert published_accuracy(replace(official, image_size=448), name) is None
    assert not any(published_accuracy(official, name) for name in ("digits", "source", "tolerance", "folder"))
