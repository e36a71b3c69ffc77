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
from ivit_helpers.weights import loading, sources
from tests.builders import randomised
from tests.weights.test_files import FIRST, SECOND, rewritten


def load(folder, cpu, dtype=torch.float32, verify=False):
    return loading.load(sources.find(str(folder)), cpu, dtype, verify)


def test_a_folder_of_bin_shards_loads_exactly_and_safetensors_are_preferred(model_folder, small_network, cpu):
    tensors = {name: tensor.bfloat16() for name, tensor in small_network.state_dict().items()}
    for files, dtype in (((FIRST, SECOND), torch.bfloat16), (("model.safetensors",), torch.float32)):
        loaded = load(model_folder, cpu, dtype)
        assert tuple(path.name for path in loaded.checkpoint.files) == files
        own = loaded.network.state_dict()
        assert all(torch.equal(own[name], tensor.to(dtype)) for name, tensor in tensors.items())
        assert not loaded.head_is_trained
        save_file(tensors, model_folder / "model.safetensors")  # for the second turn


def test_random_weights_are_always_the_same_and_give_finite_answers(cpu):
    one, other = (load("random:tiny-224", cpu) for _ in range(2))
    tensors = other.network.state_dict()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in one.network.state_dict().items())
    with cpu.inference():
        assert one.network(torch.randn(1, 3, 224, 224)).isfinite().all()


def test_weights_larger_than_the_memory_are_reported_before_loading(model_folder, cpu, monkeypatch):
    monkeypatch.setattr(type(cpu), "available_memory", lambda self: 1000)
    with pytest.raises(InputError, match="GiB for its weights in float32"):
        load(model_folder, cpu)


def test_digests_and_dtypes_of_the_files_are_in_the_record(model_folder, cpu):
    config = json.loads((model_folder / "config.json").read_text())
    config |= {"torch_dtype": "float32", "model_type": {"a": 1}, "architectures": [7, "InternVisionModel"]}
    (model_folder / "config.json").write_text(json.dumps(config))
    facts = load(model_folder, cpu, verify=True).facts()
    digest = hashlib.sha256((model_folder / SECOND).read_bytes()).hexdigest()
    assert f"{SECOND} {digest}" in facts.sha256
    assert (len(facts.sha256), facts.shards, facts.stored_dtype) == (2, 2, "bfloat16 (config.json says float32)")
    assert (facts.model_type, facts.architectures) == (None, ["InternVisionModel"])  # what is not a text is left out
    assert (facts.heads, facts.patch_size, facts.intermediate_size) == (4, 14, 128)
    assert load(model_folder, cpu).facts().sha256 is None


def test_the_digests_are_reported_with_the_damage(model_folder, cpu):
    rewritten(model_folder / FIRST, lambda tensors: tensors["encoder.layers.0.norm1.weight"].zero_())
    with pytest.raises(InputError, match=f"is all zeros; .* SHA-256 here: {FIRST} [0-9a-f]{{64}}"):
        load(model_folder, cpu, verify=True)


def test_on_the_cpu_the_files_are_mapped_and_not_copied(tmp_path):
    """In a process of its own: 98 MiB of weights add hardly any anonymous memory, a cast little beside its result."""
    config = InternViTConfig(1024, 4, 16, 4096, 28)
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    torch.save(randomised(config).bfloat16().state_dict(), tmp_path / "pytorch_model.bin")
    save_file({"weight": torch.ones(2, 1024), "bias": torch.ones(2)}, tmp_path / "classification_head.safetensors")
    program = f"""
import re, torch
from pathlib import Path
from ivit_helpers.device.selection import select
from ivit_helpers.weights.loading import load
from ivit_helpers.weights.sources import find

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024

cpu, checkpoint = select("cpu"), find({str(tmp_path)!r})
load(checkpoint, cpu, torch.bfloat16)  # what first calls allocate is not this load's
print(anonymous())
mapped = load(checkpoint, cpu, torch.bfloat16)
print(anonymous(), mapped.bytes / 2**20)
cast = load(checkpoint, cpu, torch.float32)
print(anonymous(), cast.bytes / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, mapped, size, cast, cast_size = map(float, done.stdout.split())
    assert size > 90
    assert mapped - before < 12
    assert cast - mapped < cast_size + 12
