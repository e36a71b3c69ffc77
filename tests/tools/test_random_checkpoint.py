"""tools/make_random_checkpoint.py, at a small size."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ivit_helpers.weights import loading, sources

SCRIPT = Path(__file__).parents[2] / "tools" / "make_random_checkpoint.py"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same weights as two pickled shards and as two safetensors shards."""
    made = {}
    for kind in ("bin", "safetensors"):
        made[kind] = tmp_path_factory.mktemp(kind)
        options = ["--shape", "tiny-224", "--shard-size", "1MB", *(["--safetensors"] if kind == "safetensors" else [])]
        subprocess.run([sys.executable, str(SCRIPT), str(made[kind]), *options], check=True, capture_output=True)
    return made


@pytest.mark.slow
def test_both_formats_load_as_published_folders_and_hold_the_same_weights(folders, cpu):
    one, other = (loading.load(sources.find(str(folder)), cpu, torch.bfloat16) for folder in folders.values())
    assert [path.name for path in one.checkpoint.files] == [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    assert [path.name for path in other.checkpoint.files] == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, other.network.state_dict()[name]), name


@pytest.mark.slow
def test_torch_reads_the_pickled_shards_whole(folders):
    for path in folders["bin"].glob("*.bin"):
        for name, tensor in torch.load(path, weights_only=True).items():
            assert tensor.isfinite().all(), name
            assert tensor.any(), name
