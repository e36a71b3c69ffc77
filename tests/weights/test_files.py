"""Damaged, incomplete and foreign weight files: each is named in one sentence, and no code of a file runs."""

import hashlib
import json
import os
import re
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from ivit_helpers.errors import InputError
from ivit_helpers.weights import files, loading, sources

FIRST, SECOND = (f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2))
INDEX = "pytorch_model.bin.index.json"
LAST = "encoder.layers.2.mlp.fc2.weight"
"""A matrix in the second shard"""


@pytest.fixture(params=["bin", "safetensors"])
def second(request, model_folder):
    """The second shard of a folder, which is pickled, or else safetensors."""
    if request.param == "bin":
        return model_folder / SECOND
    index = json.loads((model_folder / INDEX).read_text())["weight_map"]
    for old in (FIRST, SECOND):
        new = old.replace("pytorch_model", "model").replace(".bin", ".safetensors")
        save_file(torch.load(model_folder / old, weights_only=True), model_folder / new)
        index = {name: new if file == old else file for name, file in index.items()}
        (model_folder / old).unlink()
    (model_folder / INDEX).unlink()
    (model_folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return model_folder / new


def rewritten(path, change):
    """A pickled weight file again, after `change` was applied to its tensors."""
    tensors = torch.load(path, weights_only=True)
    change(tensors)
    torch.save(tensors, path)


def refusal(folder, cpu):
    """The one sentence with which a folder is refused; torch's own say how to read a file unrestricted."""
    with pytest.raises(InputError) as refused:
        loading.load(sources.find(str(folder)), cpu, torch.float32)
    assert not re.search(r"\n|weights_only|safe_globals|Traceback", str(refused.value))
    return str(refused.value)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.unlink(), "lacks {}, named in .*: download the missing shards"),
        (lambda path: path.write_bytes(b""), "{} is empty"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "{} is a git-LFS pointer"),
        (lambda path: path.write_bytes(b"\n<!DOCTYPE html><html>Sign in</html>"), "{} is a web page"),
        (lambda path: path.write_bytes(path.read_bytes()[:-2000]), "{} cannot be read as weights"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "{} cannot be read as weights"),
        (lambda path: path.write_bytes(os.urandom(5000)), "{} cannot be read as weights"),
        (lambda path: path.write_bytes(bytes(5000)), "{} cannot be read as weights"),
    ],
    ids=["missing", "empty", "lfs", "html", "truncated", "stub", "noise", "zeros"],
)
def test_a_damaged_file_is_named(second, cpu, damage, sentence):
    damage(second)
    assert re.search(sentence.format(second.name), refusal(second.parent, cpu))


@pytest.mark.parametrize(
    ("share", "byte", "sentence"),
    [
        (0, b"\x00", "is all zeros"),
        (0.5, b"\x00", "ends in a page of zeros"),
        (0.75, b"\xff", "holds 2,048 values that are not finite"),
    ],
)
def test_damage_that_the_format_accepts_is_named_with_its_tensor(second, cpu, share, byte, sentence):
    content, own = second.read_bytes(), files.tensors_in(second)[LAST].view(torch.int16).numpy().tobytes()
    second.write_bytes(content.replace(own, own[: int(share * len(own))].ljust(len(own), byte)))
    sources.find(str(second.parent))  # nothing to be seen from outside
    assert f"{second.name} is damaged: {LAST} {sentence}; download the file again" in refusal(second.parent, cpu)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        *(
            (place, value, "holds 1 values that are not")
            for place in (0, 300_000, -1)
            for value in (torch.nan, -torch.inf)
        ),
        (slice(0, None), 0, "is all zeros"),
        (slice(-2048, None), 0, "ends in a page of zeros"),
        (slice(200_000, 500_000), 0, "holds only zeros in the 262,144 bytes from its value 262,144 on"),
        (slice(0, None, 2), 0, ""),
        (slice(-1000, None), 0, ""),
    ],
)
def test_values_that_an_interrupted_download_leaves_are_found_and_scattered_zeros_are_not(
    tmp_path, dtype, place, value, sentence
):
    values = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).to(dtype)
    values[place] = value
    try:
        files.check_values("x.weight", values, tmp_path, dtype)
        message = ""
    except InputError as error:
        message = str(error)
    assert f"x.weight {sentence}" in message if sentence else not message


def test_a_hole_of_256_kib_is_found_in_a_wide_dtype_too(tmp_path):
    values = torch.ones(2**18)
    values[2**16 : 2**17] = 0
    with pytest.raises(InputError, match="holds only zeros"):
        files.check_values("x.weight", values, tmp_path, torch.float32)


def test_what_a_dtype_cannot_hold_or_is_not_a_weight_is_reported(tmp_path):
    files.check_values("mlp.fc1.bias", torch.zeros(64), tmp_path, torch.float32)
    for values, dtype, sentence in (
        (torch.full((3,), 2.0**17), torch.float16, "1.31e.05, which float16 cannot: run with dtype='bfloat16'"),
        (torch.full((3,), -1e300, dtype=torch.float64), torch.float32, "which float32 cannot: correct the tensor"),
        (torch.ones(3, dtype=torch.int8), torch.float32, "stores x as int8, and only floating-point weights"),
    ):
        with pytest.raises(InputError, match=sentence):
            files.check_values("x", values, tmp_path, dtype)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "has no weight_map of file names"),
        ({"weight_map": {"x": 3}}, "has no weight_map of file names"),
        ({"weight_map": {"x": "../other.bin"}}, "names '../other.bin': a shard must be a file of this folder"),
        ({"weight_map": {"x": "modeling.py"}}, "a shard must be a file of this folder, and end in .bin"),
    ],
)
def test_an_index_that_names_no_shards_of_its_folder_is_refused(model_folder, cpu, content, sentence):
    (model_folder / INDEX).write_text(json.dumps(content))
    assert sentence in refusal(model_folder, cpu)


def test_an_index_and_shards_of_different_versions_are_reported(model_folder, cpu):
    index = json.loads((model_folder / INDEX).read_text())["weight_map"]
    for name, place in {"encoder.layers.2.ls2": SECOND, "encoder.layers.3.ls2": "no file"}.items():
        (model_folder / INDEX).write_text(json.dumps({"weight_map": index | {name: FIRST}}))
        assert f"places {name} in {FIRST}, and it is in {place}" in refusal(model_folder, cpu)
    (model_folder / INDEX).write_text(json.dumps({"weight_map": index}))
    rewritten(model_folder / SECOND, lambda tensors: tensors.update({"encoder.layers.0.ls1": torch.ones(64)}))
    assert f"encoder.layers.0.ls1 is in {FIRST} and in {SECOND}" in refusal(model_folder, cpu)
    (model_folder / "pytorch_model-00003-of-00003.bin").touch()
    assert "holds pytorch_model-00003-of-00003.bin, which " in refusal(model_folder, cpu)


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced[0], self.reduced[1:]


@pytest.mark.parametrize("function", [os.system, eval, getattr, torch.hub.load])
def test_a_pickle_that_calls_anything_else_is_refused_by_name_and_runs_nothing(model_folder, cpu, function):
    witness = model_folder / "ran"
    torch.save({"x": Calls(function, f"touch {witness}")}, model_folder / FIRST)
    assert re.search(rf"{FIRST} is refused: it asks for \S*{function.__name__}", refusal(model_folder, cpu))
    assert not witness.exists()


def test_what_training_checkpoints_hold_beside_tensors_is_read_past(tmp_path, configuration):
    """The authors' configuration is a yacs object with a set in it, which torch refuses unless it is named."""
    tensors = OrderedDict(a=torch.randn(5).bfloat16(), empty=torch.zeros(0, 3), turned=torch.randn(2, 3).T)
    content = {"model": tensors, "config": configuration, "epoch": 9, "tags": {"a"}, "lr": {"base": [1e-3]}}
    content["optimizer"] = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3}]}
    torch.save(content, tmp_path / "x.pth")
    stored = files.tensors_in(tmp_path / "x.pth")
    assert all(torch.equal(stored[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("content", [[torch.ones(2)], {1: torch.ones(2)}, {"x": 3}, torch.ones(2), {}])
def test_a_pickle_of_anything_but_names_and_tensors_is_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match="x.pth holds no state dict"):
        files.tensors_in(tmp_path / "x.pth")


def test_a_safetensors_header_whose_length_looks_like_a_web_page_is_read(tmp_path):
    """15,392 bytes: the length begins with a space and a `<`."""
    header = b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'.ljust(15_392)
    values = torch.tensor([1.0, 2.0])
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + values.numpy().tobytes())
    assert files.tensors_in(tmp_path / "x.safetensors")["x"].tolist() == [1, 2]


def test_the_digest_is_the_files(tmp_path):
    (tmp_path / "x").write_bytes(b"weights" * 1000)
    assert files.sha256(tmp_path / "x") == hashlib.sha256(b"weights" * 1000).hexdigest()
