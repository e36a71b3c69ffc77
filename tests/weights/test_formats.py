from pathlib import Path

import pytest
import torch

from ivit_helpers.errors import InputError
from ivit_helpers.model.network import SHAPES, InternViT
from ivit_helpers.weights import checkpoint, formats, loading
from tests.builders import SMALL, randomised

AUTHORS_NAMES = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding": "pos_embed",
    "embeddings.patch_embedding.weight": "patch_embed.proj.weight",
    "embeddings.patch_embedding.bias": "patch_embed.proj.bias",
}


def in_the_authors_names(network):
    named = {}
    for name, tensor in network.state_dict().items():
        block = name.replace("encoder.layers.", "blocks.")
        named[AUTHORS_NAMES.get(name, f"{block}.gamma" if block.endswith(("ls1", "ls2")) else block)] = tensor.clone()
    return named | {"clip_projector.norm1_q.weight": torch.ones(3), "clip_projector.cross_attn.q_bias": torch.ones(3)}


@pytest.mark.parametrize("wrapper", [None, "module", "model"])
def test_the_authors_file_loads_by_their_names_and_its_extra_tensors_are_counted(tmp_path, cpu, wrapper, configuration):
    tensors = in_the_authors_names(randomised(SHAPES["tiny-224"]))
    path = tmp_path / "intern_vit.pth"
    torch.save({wrapper: tensors, "config": configuration} if wrapper else tensors, path)
    loaded = loading.load(checkpoint.find(str(path)), cpu, torch.float32)
    assert loaded.network.config == SHAPES["tiny-224"]
    assert loaded.facts().ignored_tensors == 2
    assert torch.equal(loaded.network.state_dict()["encoder.layers.3.ls2"], tensors["blocks.3.ls2.gamma"])
    for name, tensor in randomised(SHAPES["tiny-224"]).state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor), name


def test_a_config_beside_the_authors_file_holds(model_folder, small_network, cpu):
    torch.save({"module": in_the_authors_names(small_network)}, model_folder / "intern_vit.pth")
    assert loading.load(checkpoint.find(str(model_folder / "intern_vit.pth")), cpu, torch.float32).network.config == SMALL


def test_a_file_of_unknown_width_without_config_asks_for_one(tmp_path, small_network):
    torch.save(in_the_authors_names(small_network), tmp_path / "intern_vit.pth")
    with pytest.raises(InputError, match="put its config.json beside it"):
        checkpoint.find(str(tmp_path / "intern_vit.pth"))


@pytest.mark.parametrize("shape", ["300m-448", "6b-448"])
def test_the_config_of_every_published_network_is_told_from_its_shapes(shape):
    with torch.device("meta"):
        state = InternViT(SHAPES[shape]).state_dict()
    assert (
        formats.config_of(formats.PUBLISHED, {name: tuple(tensor.shape) for name, tensor in state.items()}, Path("x.pth")) == SHAPES[shape]
    )
