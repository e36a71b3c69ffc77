import hashlib
import json
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from ivit_helpers.errors import InputError
from ivit_helpers.model.network import InternViTConfig
from ivit_helpers.weights import checkpoint, loading
from tests.builders import randomised


def load(folder, cpu, dtype=torch.float32):
    return loading.load(checkpoint.find(str(folder)), cpu, dtype)


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
    assert loaded.facts().shards == 2
    assert not loaded.head_is_trained


def test_a_folder_of_safetensors_loads_the_same_and_is_preferred(model_folder, small_network, cpu):
    save_file(
        {name: tensor.bfloat16() for name, tensor in small_network.state_dict().items()},
        model_folder / "model.safetensors",
    )
    loaded = load(model_folder, cpu)
    assert loaded.checkpoint.shards == (model_folder / "model.safetensors",)
    for name, tensor in small_network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor.bfloat16().float()), name


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tensors: tensors.pop("encoder.layers.0.ls1"), "encoder.layers.0.ls1 is missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "extra is unexpected"),
        (
            lambda tensors: tensors.update({"encoder.layers.0.ls1": torch.zeros(5)}),
            r"encoder.layers.0.ls1 \(in pytorch_model-00001-of-00002.bin\) has shape \(5,\) where .* \(64,\)",
        ),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_a_tensor_that_does_not_fit_is_named(model_folder, cpu, change, sentence):
    rewritten(model_folder, change)
    with pytest.raises(InputError, match=sentence):
        load(model_folder, cpu)


class Harmful:
    def __reduce__(self):
        return print, ("code from the weights folder ran",)


def test_code_in_a_pickle_never_runs(model_folder, cpu, capsys):
    torch.save({"x": Harmful()}, model_folder / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(InputError, match=r"pytorch_model-00001-of-00002.bin is refused: it names print"):
        load(model_folder, cpu)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("random:9b", "it may be random:6b-224"),
        ("/no/such/folder", "is not a folder on this machine"),
        ("{}", "is not a folder on this machine"),
    ],
)
def test_a_model_that_is_not_there_is_reported(model, sentence):
    with pytest.raises(InputError, match=sentence):
        checkpoint.find(model)


def test_a_folder_without_config_is_reported(tmp_path):
    with pytest.raises(InputError, match="has no config.json"):
        checkpoint.find(str(tmp_path))


def test_random_weights_are_always_the_same_and_give_finite_answers(cpu):
    one, other = (loading.load(checkpoint.find("random:tiny-224"), cpu, torch.float32) for _ in range(2))
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, other.network.state_dict()[name]), name
    with cpu.inference():
        assert one.network(torch.randn(1, 3, 224, 224)).isfinite().all()


def test_weights_larger_than_the_memory_are_reported_before_loading(model_folder, cpu, monkeypatch):
    monkeypatch.setattr(type(cpu), "available_memory", lambda self: 1000)
    with pytest.raises(InputError, match="GiB for its weights in float32"):
        load(model_folder, cpu)


def test_the_digests_and_dtypes_of_the_files_are_in_the_record_when_asked_for(model_folder, cpu):
    published = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps(published | {"torch_dtype": "float32"}))
    described = loading.load(checkpoint.find(str(model_folder)), cpu, torch.float32, verify=True).facts()
    name = "pytorch_model-00002-of-00002.bin"
    assert f"{name} {hashlib.sha256((model_folder / name).read_bytes()).hexdigest()}" in described.sha256
    assert len(described.sha256) == 2
    assert described.stored_dtype == "bfloat16 (config.json says float32)"
    assert load(model_folder, cpu).facts().sha256 is None


def test_a_head_is_taken_from_the_parameter_and_else_from_the_folder(model_folder, cpu):
    linear = {"weight": torch.randn(7, 64), "bias": torch.randn(7)}
    save_file(linear, model_folder / "classification_head.safetensors")
    save_file({"weight": torch.randn(9, 64), "bias": torch.randn(9)}, model_folder / "other.safetensors")
    assert len(load(model_folder, cpu).classes) == 7
    given = loading.load(
        checkpoint.find(str(model_folder), str(model_folder / "other.safetensors")), cpu, torch.float32
    )
    assert len(given.classes) == 9
    assert given.head_is_trained
    with pytest.raises(InputError, match="head='/no/such.pth' is not a file on this machine"):
        checkpoint.find(str(model_folder), "/no/such.pth")


def test_weights_that_float16_cannot_hold_are_reported(model_folder, cpu):
    rewritten(model_folder, lambda tensors: tensors["encoder.layers.0.norm1.weight"].fill_(2.0**17))
    with pytest.raises(
        InputError,
        match="encoder.layers.0.norm1.weight holds 1.31e.05, which float16 cannot: run with dtype='bfloat16'",
    ):
        load(model_folder, cpu, torch.float16)


def test_on_the_cpu_the_files_are_mapped_and_not_copied(tmp_path):
    """In a process of its own: 98 MiB of weights add hardly any anonymous memory, and cast to float32 little beside the result."""
    config = InternViTConfig(1024, 4, 16, 4096, 28)
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    network = randomised(config).bfloat16()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    save_file({"weight": torch.ones(2, 1024), "bias": torch.ones(2)}, tmp_path / "classification_head.safetensors")
    program = f"""
import re, torch
from pathlib import Path
from ivit_helpers.device import cpu as host
from ivit_helpers.device.selection import select
from ivit_helpers.weights.checkpoint import find
from ivit_helpers.weights.loading import load

def held():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024

cpu, found = select("cpu"), find({str(tmp_path)!r})
load(found, cpu, torch.bfloat16)  # what first calls allocate is not this load's
before = held()
mapped = load(found, cpu, torch.bfloat16)
after = held()
before_peak = (host.reset_host_peak(), host.host_peak())[1] / 2**20
cast = load(found, cpu, torch.float32)
print(mapped.bytes / 2**20, after - before, cast.bytes / 2**20, cast.host_peak_bytes / 2**20 - before_peak)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    size, grown, cast_size, cast_peak = map(float, done.stdout.split())
    assert size > 90
    assert grown < 12
    assert cast_peak < cast_size + 48


def test_a_mistyped_relative_path_is_not_taken_for_a_hub_id(tmp_path, monkeypatch):
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="the folder weights exists and has no InternVit"):
        checkpoint.check("weights/InternVit")


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("config.json", {"hidden_size": "64"}, "hidden_size is '64', where a value such as 3200 is expected"),
        ("config.json", {"num_attention_heads": 0}, "num_attention_heads is 0"),
        ("config.json", {"image_size": [56, 56]}, r"image_size is \[56, 56\]"),
        ("config.json", {"qkv_bias": 1}, "qkv_bias is 1, where a value such as False is expected"),
        ("preprocessor_config.json", {"size": "large"}, "does not hold the sizes, means and deviations of a processor"),
        ("preprocessor_config.json", {"crop_size": {}}, "does not hold the sizes"),
    ],
)
def test_a_configuration_that_cannot_be_is_reported(model_folder, file, change, sentence):
    path = model_folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=sentence):
        checkpoint.find(str(model_folder))


def test_keys_that_are_for_training_alone_are_ignored(model_folder):
    path, before = model_folder / "config.json", checkpoint.find(str(model_folder)).config
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"dropout": 0.5, "drop_path_rate": 0.1, "initializer_factor": 9})
    )
    assert checkpoint.find(str(model_folder)).config == before


def test_a_configuration_that_is_refused_is_named_with_its_folder(model_folder):
    path = model_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layer_norm_eps": 1}))
    with pytest.raises(
        InputError, match=r"InternViT-small: config.json: layer_norm_eps is 1, and it may be 1e-12 to 0.001\."
    ):
        checkpoint.find(str(model_folder))


def test_the_largest_configuration_is_described_in_a_moment(model_folder, cpu):
    path = model_folder / "config.json"
    sizes = {"hidden_size": 2**14, "num_hidden_layers": 256, "num_attention_heads": 256, "intermediate_size": 2**16}
    path.write_text(json.dumps(json.loads(path.read_text()) | sizes))
    with pytest.raises(InputError, match="needs 3,?072.* GiB for its weights in float32"):
        loading.check_memory(checkpoint.find(str(model_folder)), cpu, torch.float32)


def test_a_processor_config_that_is_not_json_is_reported(model_folder):
    (model_folder / "preprocessor_config.json").write_text("<html>")
    with pytest.raises(InputError, match="preprocessor_config.json is not JSON"):
        checkpoint.find(str(model_folder))


def test_without_a_processor_config_images_are_of_the_networks_size(model_folder):
    (model_folder / "preprocessor_config.json").unlink()
    assert checkpoint.find(str(model_folder)).transform.crop_size == 56


def test_the_digests_are_reported_with_the_damage_where_they_were_asked_for(model_folder, cpu):
    rewritten(model_folder, lambda tensors: tensors["encoder.layers.0.norm1.weight"].zero_())
    with pytest.raises(
        InputError, match=r"is all zeros; .* SHA-256 here: pytorch_model-00001-of-00002.bin [0-9a-f]{64}"
    ):
        loading.load(checkpoint.find(str(model_folder)), cpu, torch.float32, verify=True)


@pytest.mark.parametrize("odd", [{"a": 1}, 7, None, [[]]])
def test_a_type_that_is_no_text_is_left_out_of_the_record(odd, model_folder, cpu):
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(
        json.dumps(config | {"model_type": odd, "architectures": [odd, "InternVisionModel"]})
    )
    facts = load(model_folder, cpu).facts()
    assert (facts.model_type, facts.architectures) == (None, ["InternVisionModel"])
    assert (facts.heads, facts.patch_size, facts.intermediate_size) == (4, 14, 128)
