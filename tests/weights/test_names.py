"""One network under every naming scheme: each must give the tensors of the published folder, bit by bit."""

import json
from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from ivit_helpers.errors import InputError
from ivit_helpers.images.transform import ImageTransform
from ivit_helpers.measure.peer import Peer
from ivit_helpers.weights import loading, sources
from tests.builders import randomised
from tests.weights.stored import FILES, LAYER_NORM, RMS_NORM, authors, llava, published, stored, timm, transformers

EVERY = {
    "published": published,
    "chat": partial(published, prefix="vision_model."),
    "compiled": partial(published, prefix="_orig_mod."),
    "llava": llava,
    "transformers": transformers,
    "transformers-chat": partial(transformers, prefix="vision_tower."),
    "transformers-chat-5": partial(transformers, prefix="model.vision_tower."),
    "authors": authors,
    "authors-wrapped": partial(authors, prefix="module._orig_mod."),
    "timm": timm,
}
"""Ways in which people have the network"""


def load(model, cpu, dtype=torch.float32):
    return loading.load(sources.find(str(model)), cpu, dtype)


def is_same(loaded, network):
    """Whether configuration and tensors are those of the network."""
    own = loaded.network.state_dict()
    return loaded.network.config == network.config and all(
        torch.equal(own[name], tensor.to(loaded.dtype)) for name, tensor in network.state_dict().items()
    )


@pytest.fixture(scope="module")
def network():
    return randomised(LAYER_NORM)


@pytest.mark.parametrize("way", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("config", [LAYER_NORM, RMS_NORM], ids=["300m", "6b"])
def test_every_scheme_gives_the_published_tensors(tmp_path, cpu, config, way):
    network = randomised(config)
    for file in FILES:
        loaded = load(stored(tmp_path / file, *way(network), file), cpu)
        assert is_same(loaded, network)
        assert loaded.checkpoint.transform == ImageTransform(56, 56)
    rounded = {name: tensor.bfloat16() for name, tensor in way(network)[0].items()}
    stored(tmp_path / "model.safetensors", rounded, None)
    for dtype in (torch.bfloat16, torch.float16):  # mapped; cast
        assert is_same(load(tmp_path / "model.safetensors", cpu, dtype), network.bfloat16())


@pytest.mark.parametrize("way", ["chat", "transformers-chat"])
def test_of_a_chat_model_only_the_shards_of_the_vision_network_are_needed(tmp_path, cpu, network, way):
    tensors, config = EVERY[way](network)
    (tmp_path / "config.json").write_text(json.dumps(config))
    names = sorted(tensors)  # language first
    shards = {"model-1.safetensors": names[:1], "model-2.safetensors": names[1:9], "model-3.safetensors": names[9:]}
    for file in ("model-2.safetensors", "model-3.safetensors"):
        save_file({name: tensors[name] for name in shards[file]}, tmp_path / file)
    index = {"weight_map": {name: file for file, names in shards.items() for name in names}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert is_same(load(tmp_path, cpu), network)
    (tmp_path / "model-3.safetensors").unlink()
    with pytest.raises(InputError, match="lacks model-3.safetensors, named in its index: download the missing shards"):
        sources.find(str(tmp_path))


def test_the_folders_that_transformers_itself_writes_are_read(tmp_path, cpu, network):
    from transformers import InternVLConfig, InternVLForConditionalGeneration, Qwen2Config

    alone = Peer(network).model
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 9}
    text = Qwen2Config(num_attention_heads=2, num_key_value_heads=2, **sizes)
    chat = InternVLConfig(vision_config=alone.config, text_config=text, image_token_id=7)
    whole = InternVLForConditionalGeneration(chat)
    whole.model.vision_tower.load_state_dict(alone.state_dict())
    alone.save_pretrained(tmp_path / "vision")
    whole.save_pretrained(tmp_path / "chat", max_shard_size="200KB")
    assert is_same(load(tmp_path / "vision", cpu), network)
    assert is_same(load(tmp_path / "chat", cpu), network)


@pytest.mark.parametrize("wrapper", [None, "module", "model", "state_dict"])
def test_the_authors_file_is_read_and_its_projector_is_counted(tmp_path, cpu, network, wrapper, configuration):
    tensors = authors(network)[0] | {"clip_projector.norm1_q.weight": torch.ones(3)}
    torch.save({wrapper: tensors, "config": configuration} if wrapper else tensors, tmp_path / "intern_vit.pth")
    loaded = load(tmp_path / "intern_vit.pth", cpu)
    assert is_same(loaded, network)
    assert loaded.facts().ignored_tensors == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda name, tensor: {}, "{} is missing"),
        (lambda name, tensor: {name: tensor, "more": tensor + 0}, r"more is unexpected \(in model.safetensors"),
        (lambda name, tensor: {name: tensor[:5].clone()}, r"{} .* has shape .5,.* where config.json implies .128,"),
        (lambda name, tensor: {f"{name}x": tensor}, "{0} is missing; {0}x is unexpected"),
        (lambda name, tensor: {name: tensor * 0}, "model.safetensors is damaged: {} is all zeros"),
    ],
    ids=["missing", "unexpected", "shape", "renamed", "zeros"],
)
@pytest.mark.parametrize(
    ("way", "name"),
    [
        ("published", "encoder.layers.1.norm1.weight"),
        ("transformers", "encoder.layer.1.attention.k_proj.weight"),
        ("authors", "blocks.1.ls2.gamma"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_as_it_is_stored(tmp_path, cpu, network, way, name, change, sentence):
    tensors, config = EVERY[way](network)
    tensors |= change(name, tensors.pop(name))
    with pytest.raises(InputError, match=sentence.format(name)):
        load(stored(tmp_path, tensors, config), cpu)


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        (lambda network: {"encoder.layers.0.ls1": torch.ones(128)}, "encoder.layers.0.ls1 is unexpected"),
        (lambda network: published(network, "other.")[0], "holds 2 InternViTs, under , other."),
        (lambda network: {"attn_pool.latent": torch.ones(3)}, "attn_pool.latent, of an attention-pooling head, which"),
    ],
)
def test_more_than_one_network_or_an_unknown_head_is_refused(tmp_path, cpu, network, others, sentence):
    tensors, config = authors(network)
    with pytest.raises(InputError, match=sentence):
        load(stored(tmp_path, tensors | others(network), config), cpu)


def test_weights_of_another_model_are_named(tmp_path):
    model = stored(tmp_path, {"lm_head.weight": torch.ones(2)}, {"model_type": "qwen2"})
    with pytest.raises(InputError, match=r"holds no InternViT: its tensors \(lm_head.weight.*model_type 'qwen2'"):
        sources.find(model)
