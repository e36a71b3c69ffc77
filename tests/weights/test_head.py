import json
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from ivit_helpers.errors import InputError
from ivit_helpers.model.network import ClassificationHead
from ivit_helpers.weights import checkpoint, head

WIDTH, CLASSES = 48, 13


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


@pytest.fixture
def hidden():
    return torch.randn(6, 17, WIDTH, generator=torch.Generator().manual_seed(6))


@pytest.fixture
def published(tmp_path, configuration):
    """A file as the authors save it: {'model': tensors, 'config': a real yacs CfgNode, ...}."""
    path = tmp_path / "intern_vit_6b_224px_head.pth"
    content = {
        "model": OrderedDict(official().state_dict()),
        "max_accuracy": 88.23,
        "epoch": 9,
        "config": configuration,
    }
    torch.save(content, path, pickle_protocol=2)
    return path


def relative(found, wanted):
    return float((found - wanted).abs().max() / wanted.abs().max())


def test_the_folded_head_equals_the_unfolded_one_at_the_official_width():
    unfolded, hidden = official(3200, 1000), torch.randn(4, 17, 3200, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        assert relative(head.folded(unfolded)(hidden), unfolded(hidden)) <= 1e-5


def test_the_official_file_is_read_past_its_configuration_object(published, hidden):
    found = head.read_head(published, WIDTH)
    with torch.inference_mode():
        assert relative(found.module(hidden), official()(hidden)) <= 1e-5
    assert found.kind == "BatchNorm (folded) and Linear over class token and mean patch token"
    assert len(found.classes) == CLASSES
    assert found.is_the_published_one == "no, by its SHA-256"


def test_the_published_file_is_known_by_its_digest(published, monkeypatch):
    monkeypatch.setattr(head, "PUBLISHED_SHA256", head.read_head(published, WIDTH).sha256)
    assert head.read_head(published, WIDTH).is_the_published_one == "yes"


def test_a_head_of_this_project_brings_its_class_names(tmp_path, hidden):
    path = tmp_path / "classification_head.safetensors"
    names = [f"n{number:08d}" for number in range(CLASSES)]
    save_file(official().state_dict(), path, metadata={"classes": json.dumps(names)})
    found = head.read_head(path, WIDTH)
    assert found.classes == tuple(names)
    with torch.inference_mode():
        assert relative(found.module(hidden), official()(hidden)) <= 1e-5


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("names", [("weight", "bias"), ("head.weight", "head.bias"), ("fc.weight", "fc.bias")])
def test_a_plain_linear_over_the_class_token_or_over_both_is_read(tmp_path, hidden, suffix, names):
    mean = torch.cat([hidden[:, 0], hidden[:, 1:].mean(1)], 1)
    for width, features in ((WIDTH, hidden[:, 0]), (2 * WIDTH, mean)):
        linear = {names[0]: torch.randn(CLASSES, width), names[1]: torch.randn(CLASSES)}
        path = tmp_path / f"linear{width}{suffix}"
        torch.save(linear, path) if suffix == ".pth" else save_file(linear, path)
        found = head.read_head(path, WIDTH)
        torch.testing.assert_close(found.module(hidden), features @ linear[names[0]].T + linear[names[1]])
        assert found.kind.startswith("Linear over class token")


def without(name):
    state = official().state_dict()
    del state[name]
    return state


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        (without("norm.bias"), "does not fit the official head in norm.bias"),
        (official().state_dict() | {"extra": torch.ones(1)}, "does not fit the official head in extra"),
        (official(WIDTH + 1).state_dict(), "takes 98 features: this network gives 48 .* or 96"),
        (
            {"weight": torch.ones(3, WIDTH)},
            "a head is norm.* and head.* as the official one, or the weight and bias of one Linear",
        ),
        ({"weight": torch.ones(3, WIDTH), "bias": torch.ones(4)}, "or the weight and bias of one Linear"),
        (official().state_dict() | {"norm.bias": torch.ones(3)}, "is not a classification head"),
        (
            official().state_dict() | {"norm.running_var": torch.full((2 * WIDTH,), -1.0)},
            "norm.running_var, a variance, holds values below 0",
        ),
        (
            official().state_dict() | {"norm.bias": torch.full((2 * WIDTH,), float("nan"))},
            "norm.bias holds 96 values that are not finite",
        ),
        (official().state_dict() | {"head.weight": torch.zeros(CLASSES, 2 * WIDTH)}, "head.weight is all zeros"),
    ],
)
def test_a_head_that_cannot_be_used_is_told(tmp_path, tensors, sentence):
    torch.save({"model": tensors}, tmp_path / "head.pth")
    with pytest.raises(InputError, match=sentence):
        head.read_head(tmp_path / "head.pth", WIDTH)


def test_class_names_must_be_as_many_as_the_classes(tmp_path):
    path = tmp_path / "head.safetensors"
    save_file(official().state_dict(), path, metadata={"classes": json.dumps(["one", "two"])})
    with pytest.raises(InputError, match="has names for 2 classes and weights for 13"):
        head.read_head(path, WIDTH)


def test_code_in_a_head_file_is_refused_by_name(tmp_path):
    class Harmful:
        def __reduce__(self):
            return print, ("code from the head ran",)

    torch.save({"model": official().state_dict(), "config": Harmful()}, tmp_path / "head.pth")
    with pytest.raises(InputError, match="head.pth is refused: it names print"):
        head.read_head(tmp_path / "head.pth", WIDTH)


def test_a_head_that_is_not_there_or_of_another_kind_is_told(tmp_path):
    (tmp_path / "head.txt").write_text("x")
    with pytest.raises(InputError, match="is not a file on this machine"):
        head.check_head(tmp_path / "head.pth")
    with pytest.raises(InputError, match="is not a weights file: give the path of a .pth, .bin or .safetensors file"):
        head.check_head(tmp_path / "head.txt")


def test_without_a_file_the_head_is_random_and_says_so(hidden):
    made = head.random_head(WIDTH)
    assert made.file is None
    assert made.module(hidden).shape == (6, 1000)
    assert torch.equal(made.module(hidden), head.random_head(WIDTH).module(hidden))


@pytest.mark.parametrize("names", ["tench", "3", "[1, 2]"])
def test_class_names_that_are_no_list_of_texts_are_told(tmp_path, names):
    path = tmp_path / "head.safetensors"
    save_file({"weight": torch.ones(2, WIDTH), "bias": torch.ones(2)}, path, metadata={"classes": names})
    with pytest.raises(InputError, match="has class names that are not a JSON list of strings"):
        head.read_head(path, WIDTH)


def test_an_official_head_whose_weight_has_one_dimension_is_told(tmp_path):
    save_file({**official().state_dict(), "head.weight": torch.ones(WIDTH)}, tmp_path / "head.safetensors")
    with pytest.raises(InputError, match="is not a classification head"):
        head.read_head(tmp_path / "head.safetensors", WIDTH)


def test_a_head_of_another_width_is_refused_before_its_values_are_read(tmp_path):
    save_file({"weight": torch.full((3, WIDTH + 1), torch.nan), "bias": torch.ones(3)}, tmp_path / "head.safetensors")
    with pytest.raises(InputError, match="takes 49 features: this network gives 48"):
        head.read_head(tmp_path / "head.safetensors", WIDTH)


def test_a_head_in_a_model_folder_is_checked_before_it_is_used(model_folder):
    (model_folder / "classification_head.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match="classification_head.safetensors is a git-LFS pointer"):
        checkpoint.find(str(model_folder))
