import json

import pytest
import torch
from safetensors.torch import save_file

from ivit_helpers.errors import InputError
from ivit_helpers.weights import checkpoint, files, loading, reading

FIRST, SECOND = (f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2))
INDEX = "pytorch_model.bin.index.json"


def load(folder, cpu):
    return loading.load(checkpoint.find(str(folder)), cpu, torch.float32)


def safetensors_folder(folder):
    """The folder of pickled shards as two safetensors shards."""
    index = json.loads((folder / INDEX).read_text())
    where = {}
    for number, file in enumerate((FIRST, SECOND), 1):
        tensors = torch.load(folder / file, weights_only=True)
        name = f"model-0000{number}-of-00002.safetensors"
        save_file(tensors, folder / name)
        where |= dict.fromkeys(tensors, name)
        (folder / file).unlink()
    (folder / INDEX).unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index | {"weight_map": where}))
    return folder


def changed(path, change):
    """A weights file again, after `change` was applied to its tensors."""
    tensors = torch.load(path, weights_only=True)
    change(tensors)
    torch.save(tensors, path)


@pytest.mark.parametrize("kind", [lambda folder: folder, safetensors_folder], ids=["bin", "safetensors"])
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.unlink(), "lacks {name}, named in .*: download the missing shards"),
        (lambda path: path.write_bytes(b""), "{name} is empty"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "{name} is a git-LFS pointer"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "{name} is a web page"),
        (lambda path: path.write_bytes(path.read_bytes()[:-2000]), "{name} cannot be read as weights"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "{name} cannot be read as weights"),
    ],
    ids=["missing", "empty", "lfs", "html", "truncated", "stub"],
)
def test_a_damaged_file_is_named_before_any_weights_are_read(model_folder, kind, damage, sentence):
    folder = kind(model_folder)
    path = sorted([*folder.glob("*.bin"), *folder.glob("*.safetensors")])[1]
    damage(path)
    with pytest.raises(InputError, match=sentence.format(name=path.name)):
        checkpoint.find(str(folder))


def test_a_file_of_another_download_is_named(model_folder):
    (model_folder / "pytorch_model-00003-of-00003.bin").write_bytes((model_folder / FIRST).read_bytes())
    with pytest.raises(InputError, match="holds pytorch_model-00003-of-00003.bin, which .* does not name"):
        checkpoint.find(str(model_folder))


@pytest.mark.parametrize("index", [{"weight_map": {"x": "../other.bin"}}, {"weight_map": {"x": "/etc/passwd"}}])
def test_a_shard_outside_the_folder_is_refused(model_folder, index):
    (model_folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match="a shard must be a file of this folder"):
        checkpoint.find(str(model_folder))


@pytest.mark.parametrize("index", [{}, {"weight_map": 3}, {"weight_map": {"x": 3}}])
def test_an_index_without_file_names_is_reported(model_folder, index):
    (model_folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match="has no weight_map of file names"):
        checkpoint.find(str(model_folder))


@pytest.mark.parametrize("kind", [lambda folder: folder, safetensors_folder], ids=["bin", "safetensors"])
def test_an_index_that_places_a_tensor_in_another_shard_is_reported(model_folder, cpu, kind):
    folder = kind(model_folder)
    [path] = folder.glob("*.index.json")
    index = json.loads(path.read_text())
    first, second = sorted(set(index["weight_map"].values()))
    index["weight_map"]["encoder.layers.2.ls2"] = first
    path.write_text(json.dumps(index))
    with pytest.raises(InputError, match=f"places encoder.layers.2.ls2 in {first}, and it is in {second}"):
        load(folder, cpu)


def test_an_index_of_more_tensors_than_there_are_is_reported(model_folder, cpu):
    index = json.loads((model_folder / INDEX).read_text())
    index["weight_map"]["encoder.layers.3.ls2"] = SECOND
    (model_folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match="places encoder.layers.3.ls2 in .*, and it is in no file"):
        load(model_folder, cpu)


def test_a_tensor_in_two_shards_is_reported(model_folder, cpu):
    changed(model_folder / SECOND, lambda tensors: tensors.update({"encoder.layers.0.ls1": torch.ones(64)}))
    with pytest.raises(InputError, match=f"encoder.layers.0.ls1 is in {FIRST} and in {SECOND}"):
        load(model_folder, cpu)


@pytest.mark.parametrize("kind", [lambda folder: folder, safetensors_folder], ids=["bin", "safetensors"])
def test_weights_that_are_not_floating_point_are_reported(model_folder, cpu, kind):
    name = "encoder.layers.1.mlp.fc1.weight"
    for file in (FIRST, SECOND):
        changed(
            model_folder / file,
            lambda tensors: tensors.update({name: tensors[name].to(torch.int8)} if name in tensors else {}),
        )
    with pytest.raises(InputError, match=f"stores {name} as (int8|I8), and only floating-point weights can be loaded"):
        load(kind(model_folder), cpu)


def test_a_tensor_that_is_not_contiguous_is_reported(model_folder, cpu):
    name = "encoder.layers.0.attn.proj.weight"
    changed(model_folder / FIRST, lambda tensors: tensors.update({name: tensors[name].T}))
    with pytest.raises(InputError, match=f"stores {name} as a tensor that is not contiguous"):
        load(model_folder, cpu)


def overwritten(path, where, how):
    """Bytes of a file replaced in place, as an interrupted download leaves them: same length, same header."""
    content = bytearray(path.read_bytes())
    content[where] = how(content[where])
    path.write_bytes(content)


def zeros(part):
    return bytes(len(part))


@pytest.mark.parametrize("kind", [lambda folder: folder, safetensors_folder], ids=["bin", "safetensors"])
@pytest.mark.parametrize(
    ("share", "how", "sentence"),
    [
        (1.0, zeros, "is all zeros"),
        (0.5, zeros, "ends in a page of zeros"),
        (0.25, lambda part: b"\xff" * len(part), "holds [0-9,]+ values that are not finite"),
    ],
)
def test_damage_that_the_format_accepts_is_named_with_file_and_tensor(model_folder, cpu, kind, share, how, sentence):
    folder, name = kind(model_folder), "encoder.layers.2.mlp.fc2.weight"
    place = files.places(files.files_of(files.tensors_of(folder)))[name]
    overwritten(place.file, slice(place.offset + int(place.nbytes * (1 - share)), place.offset + place.nbytes), how)
    checkpoint.find(str(folder))  # nothing to be seen from outside
    with pytest.raises(InputError, match=f"{place.file.name} is damaged: {name} {sentence}; download the file again"):
        load(folder, cpu)


def test_a_zero_filled_tail_of_a_safetensors_file_is_found(model_folder, cpu):
    folder = safetensors_folder(model_folder)
    path = sorted(folder.glob("*.safetensors"))[1]
    overwritten(path, slice(path.stat().st_size - 20_000, path.stat().st_size), zeros)
    with pytest.raises(InputError, match=f"{path.name} is damaged: .* (is all zeros|ends in a page of zeros)"):
        load(folder, cpu)


def test_tensors_of_one_storage_are_read_each_from_its_place(tmp_path):
    both = torch.randn(10)
    torch.save({"a": both[:4], "b": both[4:].view(2, 3)}, tmp_path / "x.bin")
    places = files.places([tmp_path / "x.bin"])
    for read in (dict(reading.read(places, torch.float32)), reading.mapped(places)):
        assert torch.equal(read["a"], both[:4])
        assert torch.equal(read["b"], both[4:].view(2, 3))


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_tensors_are_read_exactly_and_in_the_order_of_the_file(tmp_path, kind):
    tensors = {f"{number}": torch.randn(17, 1001 - 50 * number) for number in range(12)} | {"empty": torch.zeros(0, 3)}
    path = tmp_path / f"x.{kind}"
    torch.save(tensors, path) if kind == "bin" else save_file(tensors, path)
    places = files.places([path])
    read = list(reading.read(places, torch.float32))
    assert [name for name, _ in read] == sorted(places.keys() - {"empty"}, key=lambda name: places[name].offset)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in read)


def test_a_tensor_at_an_odd_byte_is_read(tmp_path):
    header = b'{"odd": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
    assert len(header) % 2
    (tmp_path / "x.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + torch.tensor([1.0, 2.0]).numpy().tobytes()
    )
    places = files.places([tmp_path / "x.safetensors"])
    assert dict(reading.read(places, torch.float32))["odd"].tolist() == [1, 2]
    assert reading.mapped(places)["odd"].tolist() == [1, 2]


def test_a_file_that_becomes_shorter_while_it_is_read_is_reported(tmp_path):
    torch.save({"a": torch.randn(5000)}, tmp_path / "x.bin")
    places = files.places([tmp_path / "x.bin"])
    (tmp_path / "x.bin").write_bytes((tmp_path / "x.bin").read_bytes()[:10_000])
    with pytest.raises(InputError, match="x.bin became shorter while it was read"):
        list(reading.read(places, torch.float32))


def test_a_safetensors_header_whose_length_looks_like_the_beginning_of_a_web_page_is_read(tmp_path):
    """15,392 bytes: the length begins with a space and a `<`."""
    entry = b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
    (tmp_path / "x.safetensors").write_bytes(
        (15_392).to_bytes(8, "little") + entry.ljust(15_392) + torch.tensor([1.0, 2.0]).numpy().tobytes()
    )
    assert dict(reading.read(files.places([tmp_path / "x.safetensors"]), torch.float32))["x"].tolist() == [1, 2]


def test_a_number_too_large_for_float32_is_reported_with_the_dtype(tmp_path):
    torch.save({"a": torch.full((3,), 1e300, dtype=torch.float64)}, tmp_path / "x.bin")
    with pytest.raises(InputError, match="a holds 1e.300, which float32 cannot: correct the tensor in .*x.bin"):
        list(reading.read(files.places([tmp_path / "x.bin"]), torch.float32))
