import json

import pytest
import torch
from safetensors.torch import save_file

from ivit_helpers import checkpoint
from ivit_helpers.errors import InputError


def load(folder, cpu, dtype=torch.float32):
    return checkpoint.load(checkpoint.find(str(folder)), cpu, dtype)


def rewritten(folder, change):
    """The first shard again, after `change` was applied to its tensors."""
    path = folder / "pytorch_model-00001-of-00002.bin"
    tensors = torch.load(path, weights_only=True)
    change(tensors)
    torch.save(tensors, path)


def test_a_folder_of_bin_shards_loads_exactly(model_folder, small_network, cpu):
    loaded = load(model_folder, cpu, torch.bfloat16)
    for name, tensor in small_network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor.bfloat16()), name
    assert loaded.described()["shards"] == 2
    assert not loaded.head_is_trained


def test_a_folder_of_safetensors_loads_the_same(model_folder, small_network, cpu):
    for file in model_folder.glob("pytorch_model*"):
        file.unlink()
    save_file({name: tensor.bfloat16() for name, tensor in small_network.state_dict().items()}, model_folder / "model.safetensors")
    loaded = load(model_folder, cpu)
    name = "encoder.layers.2.mlp.fc2.weight"
    assert torch.equal(loaded.network.state_dict()[name], small_network.state_dict()[name].bfloat16().float())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tensors: tensors.pop("encoder.layers.0.ls1"), "encoder.layers.0.ls1 is missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "extra is unexpected"),
        (
            lambda tensors: tensors.update({"encoder.layers.0.ls1": torch.zeros(5)}),
            r"encoder.layers.0.ls1 has shape \(5,\) where .* \(64,\)",
        ),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_a_tensor_that_does_not_fit_is_named(model_folder, cpu, change, sentence):
    rewritten(model_folder, change)
    with pytest.raises(InputError, match=sentence):
        load(model_folder, cpu)


def test_a_missing_shard_is_named(model_folder):
    (model_folder / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(InputError, match="lacks pytorch_model-00002-of-00002.bin"):
        checkpoint.find(str(model_folder))


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<html>not found</html>"])
def test_a_shard_that_is_no_weights_is_named(model_folder, cpu, content):
    (model_folder / "pytorch_model-00001-of-00002.bin").write_bytes(content)
    with pytest.raises(InputError, match=r"pytorch_model-00001-of-00002.bin cannot be read as weights"):
        load(model_folder, cpu)


def test_a_shard_outside_the_folder_is_refused(model_folder):
    index = {"weight_map": {"x": "../other.bin"}}
    (model_folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="a shard must be a file of this folder"):
        checkpoint.find(str(model_folder))


class Harmful:
    def __reduce__(self):
        return print, ("code from the weights folder ran",)


def test_code_in_a_pickle_never_runs(model_folder, cpu, capsys):
    torch.save({"x": Harmful()}, model_folder / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(InputError, match="cannot be read as weights"):
        load(model_folder, cpu)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("model", "sentence"),
    [("random:9b", "it may be random:6b-224"), ("/no/such/folder", "is no folder on this machine"), ("{}", "is no folder on this machine")],
)
def test_a_model_that_is_not_there_is_told(model, sentence):
    with pytest.raises(InputError, match=sentence):
        checkpoint.find(model)


def test_a_folder_without_config_is_told(tmp_path):
    with pytest.raises(InputError, match="has no config.json"):
        checkpoint.find(str(tmp_path))


def test_random_weights_are_always_the_same_and_give_finite_answers(cpu):
    one, other = (checkpoint.load(checkpoint.find("random:tiny-224"), cpu, torch.float32) for _ in range(2))
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, other.network.state_dict()[name]), name
    with cpu.inference():
        assert one.network(torch.randn(1, 3, 224, 224)).isfinite().all()


def test_weights_larger_than_the_memory_are_told_before_loading(model_folder, cpu, monkeypatch):
    monkeypatch.setattr(type(cpu), "available_memory", lambda self: 1000)
    with pytest.raises(InputError, match="GiB for its weights in float32"):
        load(model_folder, cpu)
