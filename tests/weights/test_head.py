import json
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from ivit_helpers.errors import InputError
from ivit_helpers.model.kernels import relative_error
from ivit_helpers.model.network import ClassificationHead
from ivit_helpers.weights import head, loading, sources
from tests.builders import randomised
from tests.weights.stored import FILES, LAYER_NORM, authors, stored

WIDTH, CLASSES = 48, 13
HIDDEN = torch.randn(6, 17, WIDTH, generator=torch.Generator().manual_seed(6))


def error(module, hidden, expected):
    """Relative error of a head's logits against those of another head."""
    with torch.inference_mode():
        return relative_error(module(hidden), expected(hidden))


def official(width=WIDTH, classes=CLASSES):
    """A head of the official shape with a BatchNorm that does something."""
    generator = torch.Generator().manual_seed(5)
    made = ClassificationHead(width, classes).eval().requires_grad_(False)
    for name, tensor in made.state_dict().items():
        if tensor.is_floating_point():
            tensor.normal_(generator=generator)
            if name == "norm.running_var":
                tensor.abs_().add_(0.1)
    return made


def test_the_folded_head_equals_the_unfolded_one_at_the_official_width():
    unfolded, hidden = official(3200, 1000), torch.randn(4, 17, 3200, generator=torch.Generator().manual_seed(6))
    assert error(head.folded(unfolded), hidden, unfolded) <= 1e-5


def test_the_official_file_is_read_past_its_configuration_object(tmp_path, configuration, monkeypatch):
    """A file as the authors save it: {'model': tensors, 'config': a real yacs CfgNode, ...}."""
    path = tmp_path / "intern_vit_6b_224px_head.pth"
    torch.save({"model": OrderedDict(official().state_dict()), "epoch": 9, "config": configuration}, path)
    read = head.read_head(path, WIDTH)
    assert error(read.module, HIDDEN, official()) <= 1e-5
    assert read.kind == "BatchNorm (folded) and Linear over class token and mean patch token"
    assert (len(read.classes), read.is_the_published_one) == (CLASSES, "no, by its SHA-256")
    monkeypatch.setattr(head, "PUBLISHED_SHA256", read.sha256)
    assert head.read_head(path, WIDTH).is_the_published_one == "yes"


def test_a_head_of_this_project_brings_its_class_names(tmp_path):
    path, names = tmp_path / "classification_head.safetensors", [f"n{number:08d}" for number in range(CLASSES)]
    save_file(official().state_dict(), path, metadata={"classes": json.dumps(names)})
    read = head.read_head(path, WIDTH)
    assert read.classes == head.head_classes(path) == tuple(names)
    assert error(read.module, HIDDEN, official()) <= 1e-5


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("names", [("weight", "bias"), ("head.weight", "head.bias"), ("fc.weight", "fc.bias")])
@pytest.mark.parametrize("tokens", [1, 2], ids=["class token", "and mean patch token"])
def test_a_plain_linear_is_read(tmp_path, file, names, tokens):
    features = ClassificationHead.pooled(HIDDEN)[:, : tokens * WIDTH]
    weight, bias = torch.randn(CLASSES, tokens * WIDTH), torch.randn(CLASSES)
    FILES[file]({names[0]: weight, names[1]: bias}, tmp_path / file)
    read = head.read_head(tmp_path / file, WIDTH)
    torch.testing.assert_close(read.module(HIDDEN), features @ weight.T + bias)
    assert read.classes == head.head_classes(tmp_path / file) == tuple(f"class {number}" for number in range(CLASSES))


def changed(name, tensor):
    """The official head's tensors with another one of that name; without it where that is None."""
    tensors = official().state_dict() | {name: tensor}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        (changed("norm.bias", None), "does not fit the official head in norm.bias"),
        (changed("extra", torch.ones(1)), "does not fit the official head in extra"),
        (changed("norm.bias", torch.ones(3)), "is not a classification head"),
        (changed("head.weight", torch.ones(WIDTH)), "is not a classification head"),
        (changed("norm.running_var", torch.full((2 * WIDTH,), -1.0)), "a variance, holds values below 0"),
        (changed("norm.bias", torch.full((2 * WIDTH,), torch.nan)), "norm.bias holds 96 values that are not finite"),
        (changed("head.weight", torch.zeros(CLASSES, 2 * WIDTH)), "head.weight is all zeros"),
        (official(WIDTH + 1).state_dict(), "takes 98 features: this network gives 48 .* or 96"),
        ({"weight": torch.full((3, 49), torch.nan), "bias": torch.ones(3)}, "takes 49 features: this network gives 48"),
        ({"weight": torch.ones(3, WIDTH)}, "a head is norm.* and head.* as the official one, or the weight and bias"),
        ({"weight": torch.ones(3, WIDTH), "bias": torch.ones(4)}, "or the weight and bias of one Linear"),
        ({"attn_pool.latent": torch.ones(1, 1, WIDTH)}, "holds attn_pool.latent, of an attention-pooling head"),
        (authors(randomised(LAYER_NORM))[0], "holds no head.* or norm.*: a head is norm.* and head.* as the official"),
    ],
)
def test_a_head_that_cannot_be_used_is_refused(tmp_path, tensors, sentence):
    torch.save({"model": tensors}, tmp_path / "head.pth")
    with pytest.raises(InputError, match=sentence):
        head.read_head(tmp_path / "head.pth", WIDTH)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("tench", "has class names that are not a JSON list of strings"),
        ("[1, 2]", "has class names that are not a JSON list of strings"),
        ('["one", "two"]', "has names for 2 classes and weights for 13"),
    ],
)
def test_class_names_must_be_texts_and_as_many_as_the_classes(tmp_path, names, sentence):
    save_file(official().state_dict(), tmp_path / "head.safetensors", metadata={"classes": names})
    with pytest.raises(InputError, match=sentence):
        head.read_head(tmp_path / "head.safetensors", WIDTH)


def test_a_head_that_is_not_there_or_not_weights_is_refused_before_anything_is_loaded(tmp_path, model_folder):
    (tmp_path / "head.txt").write_text("x")
    for path, sentence in ((tmp_path / "head.pth", "is not a file"), (tmp_path / "head.txt", "is not a weights file")):
        with pytest.raises(InputError, match=f"head='{path}' {sentence}"):
            sources.find("tiny", str(path))
    (model_folder / "classification_head.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match="classification_head.safetensors is a git-LFS pointer"):
        sources.find(str(model_folder))


def test_the_parameter_goes_before_the_folders_own_head(model_folder, cpu):
    for name, classes in (("classification_head", 7), ("other", 9)):
        linear = {"weight": torch.ones(classes, 64), "bias": torch.ones(classes)}
        save_file(linear, model_folder / f"{name}.safetensors")
    for given, classes in (("", 7), (str(model_folder / "other.safetensors"), 9)):
        loaded = loading.load(sources.find(str(model_folder), given), cpu, torch.float32)
        assert (len(loaded.classes), loaded.head_is_trained) == (classes, True)


@pytest.mark.parametrize("file", FILES)
def test_the_head_beside_the_network_in_its_own_file_is_read(tmp_path, cpu, file):
    tensors, config = authors(randomised(LAYER_NORM))
    model = stored(tmp_path, tensors | official(128, 11).state_dict(), config, file)
    loaded = loading.load(sources.find(model), cpu, torch.float32)
    assert (len(loaded.classes), loaded.facts().head_file, loaded.facts().ignored_tensors) == (11, file, None)
    assert error(loaded.head, torch.randn(3, 17, 128), official(128, 11)) < 1e-5


def test_a_norm_after_the_last_block_is_no_head_and_is_refused(tmp_path, cpu):
    tensors, config = authors(randomised(LAYER_NORM))
    tensors |= {"norm.weight": torch.ones(128), "head.weight": torch.ones(3, 128), "head.bias": torch.ones(3)}
    with pytest.raises(InputError, match="norm.weight is unexpected"):
        loading.load(sources.find(stored(tmp_path, tensors, config)), cpu, torch.float32)


def test_without_a_file_the_head_is_random_and_always_the_same():
    one, other = head.random_head(WIDTH), head.random_head(WIDTH)
    assert one.file is None
    assert one.module(HIDDEN).shape == (6, 1000)
    assert torch.equal(one.module(HIDDEN), other.module(HIDDEN))
