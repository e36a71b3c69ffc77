"""Fixtures made by code: small networks, model folders in the published format, image files."""

import json
import os
from pathlib import Path

import pytest
import torch
from yacs.config import CfgNode

from ivit_helpers.device import device, selection
from ivit_helpers.model.network import InternViT
from ivit_helpers.weights import loading, sources
from tests.builders import SMALL, randomised
from tests.shell import BIN, CPU, SHORT, shell

os.environ.setdefault("TQDM_DISABLE", "1")  # no progress bars in captured output
collect_ignore = [] if "NPU_RIG" in os.environ else ["npu"]  # `make test-npu` runs those on the rig


@pytest.fixture
def cpu() -> device.Device:
    return selection.select("cpu")


@pytest.fixture
def small_network() -> InternViT:
    return randomised(SMALL)


@pytest.fixture
def model_folder(tmp_path: Path, small_network: InternViT) -> Path:
    """A folder as published: config, processor config, two .bin shards in bfloat16, an index."""
    folder = tmp_path / "InternViT-small"
    folder.mkdir()
    published = {
        "architectures": ["InternVisionModel"],
        "model_type": "intern_vit_6b",
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "image_size": 56,
        "patch_size": 14,
        "qk_normalization": True,
        "qkv_bias": False,
    }
    (folder / "config.json").write_text(json.dumps(published))
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 56, "crop_size": 56, "resample": 3}))
    tensors = {name: tensor.bfloat16() for name, tensor in small_network.state_dict().items()}
    names = list(tensors)
    where = {}
    for number, part in enumerate([names[:20], names[20:]], 1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: tensors[name].clone() for name in part}, folder / file)
        where |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


@pytest.fixture
def configuration() -> CfgNode:
    """A training configuration of the authors: a frozen yacs node of nested nodes, each with a set of its own."""
    node = CfgNode({"MODEL": {"TYPE": "intern_vit_6b"}, "EPOCHS": 10, "DATA": {"MEAN": (0.5, 0.5), "TAGS": ["a"]}})
    node.register_deprecated_key("OLD")
    node.freeze()
    return node


@pytest.fixture(scope="session")
def tiny() -> loading.Loaded:
    return loading.load(sources.find("tiny"), selection.select("cpu"), torch.float32)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make report` leaves: the four notebooks on the embedded miniature, kept short.

    The environment that this command sets up first is the one that runs the tests.
    """
    folder = tmp_path_factory.mktemp("reports") / "run"
    shell(f"make --assume-old=.venv/.installed-dev BIN={BIN} report ARGS='{CPU} {SHORT} -p limit=100 --out {folder}'")
    return folder
