"""What a folder says of its network and images: what is not possible, or not computed, is refused in one sentence."""

import json

import pytest
import torch

from ivit_helpers.errors import InputError
from ivit_helpers.images.transform import ImageTransform
from ivit_helpers.model.network import SHAPES, InternViT
from ivit_helpers.weights import config, names, sources
from tests.builders import SMALL, randomised
from tests.weights.stored import LAYER_NORM, RMS_NORM, authors, published, stored, timm, transformers

REQUIRED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size")
PROCESSOR = "preprocessor_config.json"


@pytest.fixture(scope="module")
def network():
    return randomised(LAYER_NORM)


def changed(folder, file="config.json", **changes):
    """The folder, after keys of one of its JSON files were changed, or removed where they are None."""
    content = json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return str(folder)


@pytest.mark.parametrize(
    ("file", "changes", "sentence"),
    [
        *(("config.json", {key: None}, f"config.json has no {key}, and config.json is of") for key in REQUIRED),
        ("config.json", {"num_attention_heads": 7}, "hidden_size 64 is not a multiple of num_attention_heads 7"),
        ("config.json", {"image_size": [56, 84]}, r"image_size is \[56, 84\]"),
        (
            "config.json",
            {"hidden_act": "quick_gelu"},
            "hidden_act is 'quick_gelu', and this network computes 'gelu' only",
        ),
        (PROCESSOR, {"size": "large"}, "does not hold the sizes"),
        (PROCESSOR, {"do_normalize": False}, "do_normalize is False, and only true is computed"),
        (PROCESSOR, {"crop_size": 50}, "crop_size is 50, and the network needs a multiple of its patch_size, 14"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(model_folder, file, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        sources.find(changed(model_folder, file, **changes))


@pytest.mark.parametrize("content", ["", "[]", "<html>", '{"a": "\x00"}', "[" * 100_000, '{"hidden_size": 64'])
@pytest.mark.parametrize("file", ["config.json", PROCESSOR])
def test_a_file_that_is_no_json_object_is_named(model_folder, file, content):
    (model_folder / file).write_text(content)
    with pytest.raises(InputError, match=f"{file} (is not JSON|does not hold a JSON object|is empty|is a web page)"):
        sources.find(str(model_folder))


def test_keys_for_training_alone_are_ignored_and_square_sides_may_be_lists(model_folder):
    changes = {"dropout": 0.5, "drop_path_rate": 0.1, "image_size": [56, 56], "patch_size": [14, 14]}
    assert sources.find(changed(model_folder, **changes)).config == SMALL


@pytest.mark.parametrize("way", [transformers, authors])
def test_another_activation_is_refused_under_every_scheme(tmp_path, network, way):
    tensors, content = way(network)
    with pytest.raises(InputError, match="hidden_act is 'relu'"):
        sources.find(stored(tmp_path, tensors, content | {"hidden_act": "relu"}))


def test_the_published_6b_config_has_no_norm_type_and_means_rms_norm(tmp_path):
    tensors, content = published(randomised(RMS_NORM))
    for key in ("norm_type", "qk_normalization", "qkv_bias", "layer_norm_eps", "num_channels"):
        del content[key]
    assert sources.find(stored(tmp_path, tensors, content)).config == RMS_NORM


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"model_type": "clip"}, "config.json is of model_type 'clip': give the folder of an InternViT"),
        ({"architectures": ["X"]}, "config.json is of an unknown model: give the folder of an InternViT"),
        ({"architecture": "vit_large_patch14"}, "timm's, of vit_large_patch14: of timm's models only vit_intern300m"),
    ],
)
def test_a_config_without_the_networks_keys_is_never_read_as_the_6b_network(tmp_path, network, content, sentence):
    with pytest.raises(InputError, match=sentence):
        sources.find(stored(tmp_path, network.state_dict(), content))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_config_of_every_published_network_follows_from_its_shapes(shape, tmp_path):
    with torch.device("meta"):
        tensors = InternViT(SHAPES[shape]).state_dict()
    assert config.config_of_tensors(names.PUBLISHED, tensors, tmp_path) == SHAPES[shape]


def test_a_file_of_unknown_width_without_config_asks_for_one(tmp_path, small_network):
    with pytest.raises(InputError, match="put its config.json beside it"):
        sources.find(stored(tmp_path, authors(small_network)[0], None, "weights.pth"))


@pytest.mark.parametrize(
    ("changes", "transform"),
    [
        ({"mean": [0.5] * 3, "std": [0.2] * 3}, ImageTransform(56, 56, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))),
        ({"crop_pct": 0.875, "interpolation": "bilinear"}, ImageTransform(64, 56, resample=2)),
        ({"interpolation": "sharp"}, None),
        ({"crop_pct": 0}, None),
    ],
)
def test_timms_preprocessing_is_taken_or_refused_as_a_whole(tmp_path, network, changes, transform):
    tensors, content = timm(network)
    content["pretrained_cfg"] |= changes
    model = stored(tmp_path, tensors, content)
    if transform:
        assert sources.find(model).transform == transform
    else:
        with pytest.raises(
            InputError, match="config.json does not hold the sizes, means and deviations of a processor"
        ):
            sources.find(model)


def test_without_a_processor_config_images_are_of_the_networks_size(model_folder):
    chat = {"size": {"height": 56, "width": 56}, "crop_size": None, "do_center_crop": None, "resample": 3}
    (model_folder / PROCESSOR).write_text(json.dumps(chat))  # as transformers writes a chat model's
    assert sources.find(str(model_folder)).transform == ImageTransform(56, 56)
    (model_folder / PROCESSOR).unlink()
    assert sources.find(str(model_folder)).transform == ImageTransform(56, 56)
