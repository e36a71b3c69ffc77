"""The `model` parameter: names, paths, hub caches and hub ids. A folder stands for the hub."""

import json
import shutil
from fnmatch import fnmatch

import pytest

from ivit_helpers.errors import InputError
from ivit_helpers.weights import sources

SHARDS = {f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)}
INDEX = "pytorch_model.bin.index.json"


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("random:9b", "it may be random:6b-224"),
        ("/no/such/folder", "is not a folder on this machine"),
        ("{}", "is not a folder on this machine"),
        ("weights/InternVit", "the folder weights exists and has no InternVit"),
        ("weights", "has no config.json"),
        ("models--owner--model", "holds 0 snapshots"),
    ],
)
def test_a_model_that_is_not_there_is_reported(model, sentence, tmp_path, monkeypatch):
    (tmp_path / "weights").mkdir()
    (tmp_path / "models--owner--model").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=sentence):
        sources.check(model)


def test_only_owner_and_name_are_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "model").mkdir(parents=True)
    assert sources.is_hub_id("OpenGVLab/InternViT-6B-224px")
    others = "tiny random:6b-224 /weights/model ./weights/model a/b/c ../model ~/model a/ /a owner/model"
    assert not any(map(sources.is_hub_id, others.split()))


def test_a_model_in_a_hub_cache_is_named_by_its_name_and_not_by_its_hash(tmp_path, model_folder):
    root = tmp_path / "models--owner--InternViT-small"
    for folder in ("snapshots", "refs"):
        (root / folder).mkdir(parents=True)
    snapshot = model_folder.rename(root / "snapshots" / "0000")
    (tmp_path / "link").symlink_to(snapshot)
    for place in (root, snapshot, tmp_path / "link"):
        checkpoint = sources.find(str(place))
        assert (checkpoint.name, checkpoint.files[0].parent) == ("InternViT-small", snapshot)
    (root / "snapshots" / "1111").mkdir()
    with pytest.raises(InputError, match="holds 2 snapshots and none is its main one: give the path of one"):
        sources.find(str(root))
    (root / "refs" / "main").write_text("0000\n")
    assert sources.find(str(root)).files[0].parent == snapshot


@pytest.fixture
def hub(model_folder, tmp_path, monkeypatch):
    """The folder of the hub's one model, owner/model, and a function that says which files were downloaded."""
    (model_folder / "modeling_intern_vit.py").write_text("raise SystemExit")
    cache = tmp_path / "cache"
    cache.mkdir()

    def snapshot_download(model, allow_patterns):
        if model != "owner/model":
            raise ValueError("Repository not found\nand a request id")
        for path in model_folder.iterdir():
            if any(fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, cache)
        return str(cache)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return model_folder, lambda: {path.name for path in cache.iterdir()}


def test_before_a_run_only_the_configuration_is_downloaded_then_the_weights_and_no_code(hub):
    _, downloaded = hub
    sources.check("owner/model")
    assert downloaded() == {"config.json", "preprocessor_config.json"}
    checkpoint = sources.find("owner/model")
    assert downloaded() == {"config.json", "preprocessor_config.json", INDEX, *SHARDS}
    assert (checkpoint.name, {path.name for path in checkpoint.files}) == ("model", SHARDS)


def test_safetensors_are_preferred_and_pickles_left_where_they_are(hub):
    model_folder, downloaded = hub
    (model_folder / "model.safetensors").touch()
    sources.fetch_model("owner/model")
    assert downloaded() == {"config.json", "preprocessor_config.json", "model.safetensors"}


def test_of_a_chat_model_only_the_shards_of_the_vision_network_are_downloaded(hub):
    model_folder, downloaded = hub
    index = json.loads((model_folder / INDEX).read_text())["weight_map"]
    where = {f"vision_model.{name}": file for name, file in index.items()} | {"language_model.x": "other.bin"}
    (model_folder / INDEX).write_text(json.dumps({"weight_map": where}))
    (model_folder / "other.bin").touch()
    sources.fetch_model("owner/model")
    assert downloaded() == {"config.json", "preprocessor_config.json", INDEX, *SHARDS}


def test_of_another_model_no_shard_is_downloaded(hub):
    model_folder, downloaded = hub
    (model_folder / INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": min(SHARDS)}}))
    with pytest.raises(InputError, match=r"holds no InternViT: its tensors \(lm_head.weight"):
        sources.find("owner/model")
    assert not SHARDS & downloaded()


@pytest.mark.parametrize("ask", [sources.find, sources.check])
def test_a_model_that_cannot_be_had_is_one_sentence_with_what_to_do(hub, ask):
    with pytest.raises(InputError, match="could not be downloaded .*not found.: .* set HF_ENDPOINT for a mirror, or"):
        ask("owner/other")
