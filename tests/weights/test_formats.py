"""One network stored in every format: each must give the tensors of the published folder, bit by bit, and its answers."""

import json
from collections import OrderedDict
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ivit_helpers.errors import InputError
from ivit_helpers.images.transform import ImageTransform
from ivit_helpers.measure.peer import Peer
from ivit_helpers.model.network import SHAPES, InternViT, InternViTConfig
from ivit_helpers.weights import checkpoint, formats, loading
from tests.builders import SMALL, randomised
from tests.weights.test_head import official as official_head

CONFIG = InternViTConfig(128, 2, 4, 256, 56, norm_type="layer_norm", qk_normalization=False, qkv_bias=True)
"""As InternViT-300M, which every format can hold; 128 wide, since a width that is published tells the number of heads"""
RMS_NORM = InternViTConfig(128, 2, 4, 256, 56)
"""As the 6B networks"""
AUTHORS_NAMES = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding": "pos_embed",
    "embeddings.patch_embedding.weight": "patch_embed.proj.weight",
    "embeddings.patch_embedding.bias": "patch_embed.proj.bias",
}
TRANSFORMERS_KEYS = {"qkv_bias": "attention_bias", "qk_normalization": "use_qk_norm"}


def cloned(tensors):
    return {name: tensor.clone() for name, tensor in tensors.items()}


def published_config(config):
    return {"model_type": "intern_vit_6b", "hidden_act": "gelu", **asdict(config)}


def published(network):
    return network.state_dict(), published_config(network.config)


def chat(network):
    others = {"language_model.lm_head.weight": torch.zeros(3, 3, dtype=torch.int8), "mlp1.0.weight": torch.ones(3)}
    tensors = {f"vision_model.{name}": tensor for name, tensor in network.state_dict().items()}
    return others | tensors, {"model_type": "internvl_chat", "vision_config": published_config(network.config)}


def transformers(network):
    keys = {TRANSFORMERS_KEYS.get(key, key): value for key, value in asdict(network.config).items()}
    sides = {key: [keys[key], keys[key]] for key in ("image_size", "patch_size")}
    return Peer(network).model.state_dict(), {"model_type": "internvl_vision", "hidden_act": "gelu", **keys, **sides}


def transformers_chat(network, prefix="vision_tower."):
    tensors, config = transformers(network)
    others = {
        f"{prefix.replace('vision_tower', 'language_model')}norm.weight": torch.ones(3),
        "multi_modal_projector.bias": torch.ones(3),
    }
    return others | {f"{prefix}{name}": tensor for name, tensor in tensors.items()}, {
        "model_type": "internvl",
        "vision_config": config,
    }


def transformers_model(network):
    return transformers_chat(network, "model.vision_tower.")


def in_the_authors_names(network):
    named = {}
    for name, tensor in network.state_dict().items():
        block = name.replace("encoder.layers.", "blocks.")
        named[AUTHORS_NAMES.get(name, f"{block}.gamma" if block.endswith(("ls1", "ls2")) else block)] = tensor.clone()
    return named


def authors(network):
    return in_the_authors_names(network), published_config(network.config)


def timm(network):
    cfg = {
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "input_size": [3, 56, 56],
    }
    return in_the_authors_names(network), {
        "architecture": "vit_intern300m_patch14_448",
        "num_features": 128,
        "pretrained_cfg": cfg,
    }


EVERY = [published, chat, transformers, transformers_chat, transformers_model, authors, timm]
SAVED = {
    "model.safetensors": lambda tensors, path: save_file(cloned(tensors), path),
    "pytorch_model.bin": lambda tensors, path: torch.save(cloned(tensors), path),
    "weights.pth": lambda tensors, path: torch.save({"model": cloned(tensors)}, path),
}


def stored(folder, tensors, config, file="model.safetensors"):
    """The `model` parameter of these tensors in one file, beside their config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    SAVED[file](tensors, folder / file)
    return str(folder / file if file.endswith(".pth") else folder)


def load(model, cpu, dtype=torch.float32, head=""):
    return loading.load(checkpoint.find(model, str(head)), cpu, dtype)


def assert_the_same_network(loaded, network):
    assert loaded.network.config == network.config
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor.to(loaded.dtype)), name


@pytest.fixture(scope="module")
def network():
    return randomised(CONFIG)


@pytest.mark.parametrize("file", SAVED)
@pytest.mark.parametrize("form", EVERY, ids=lambda form: form.__name__)
@pytest.mark.parametrize("config", [CONFIG, RMS_NORM], ids=["300m", "6b"])
def test_every_format_gives_the_tensors_and_the_answers_of_the_published_folder(tmp_path, cpu, config, form, file):
    network = randomised(config)
    save_file(official_head(128, 20).state_dict(), tmp_path / "head.safetensors")
    official = load(stored(tmp_path / "published", *published(network)), cpu, head=tmp_path / "head.safetensors")
    loaded = load(stored(tmp_path / "other", *form(network), file), cpu, head=tmp_path / "head.safetensors")
    assert_the_same_network(loaded, network)
    assert loaded.checkpoint.transform == official.checkpoint.transform == ImageTransform(56, 56)
    pixels = torch.randn(4, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    with cpu.inference():
        ours, theirs = (found.classifier(pixels).topk(5).indices for found in (loaded, official))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", [chat, transformers], ids=lambda form: form.__name__)
def test_it_is_cast_and_mapped_alike_whether_stored_whole_or_in_thirds(tmp_path, cpu, network, form, dtype):
    tensors, config = form(network)
    tensors = {name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    assert_the_same_network(load(stored(tmp_path, tensors, config), cpu, dtype), network.bfloat16())


def sharded(folder, tensors, config, count=5):
    """The tensors in the order of their names over many shards, as save_pretrained would; (folder, shard by name)."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    names = sorted(tensors)
    size = -(-len(names) // count)
    where = {name: f"model-{number // size + 1:05}-of-{count:05}.safetensors" for number, name in enumerate(names)}
    for file in set(where.values()):
        save_file({name: tensors[name].clone() for name in names if where[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder, where


@pytest.mark.parametrize(
    ("form", "prefix"), [(chat, "vision_model."), (transformers_chat, "vision_tower.")], ids=["chat", "hf"]
)
def test_of_a_chat_model_only_the_shards_of_the_vision_network_are_needed(tmp_path, cpu, network, form, prefix):
    tensors, config = form(network)
    tensors |= {f"language_model.layers.{number:03}.weight": torch.ones(2) for number in range(40)}
    folder, where = sharded(tmp_path / "chat", tensors, config)
    needed = {file for name, file in where.items() if name.startswith(prefix)}
    others = set(where.values()) - needed
    assert len(needed) > 1
    assert others
    for file in others:
        (folder / file).unlink()
    loaded = load(str(folder), cpu)
    assert {file.name for file in loaded.checkpoint.shards} == needed
    assert_the_same_network(loaded, network)
    last = sorted(needed)[-1]
    (folder / last).unlink()
    with pytest.raises(InputError, match=f"lacks {last}, named in its index: download the missing shards"):
        checkpoint.find(str(folder))


def test_the_folders_that_transformers_itself_writes_are_read(tmp_path, cpu, network):
    from transformers import InternVLConfig, InternVLForConditionalGeneration, Qwen2Config

    alone = Peer(network).model
    alone.save_pretrained(tmp_path / "vision")
    text = Qwen2Config(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=9,
    )
    whole = InternVLForConditionalGeneration(
        InternVLConfig(vision_config=alone.config, text_config=text, image_token_id=7)
    )
    whole.model.vision_tower.load_state_dict(alone.state_dict())
    whole.save_pretrained(tmp_path / "chat", max_shard_size="200KB")
    for folder in ("vision", "chat"):
        loaded = load(str(tmp_path / folder), cpu)
        assert_the_same_network(loaded, network)
    assert len(loaded.checkpoint.shards) > 3


def test_the_processor_of_transformers_chat_folder_keeps_the_networks_size(tmp_path, network):
    model = stored(tmp_path, *transformers_chat(network))
    written = {"size": {"height": 56, "width": 56}, "crop_size": None, "do_center_crop": None, "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(written))
    assert checkpoint.find(model).transform == ImageTransform(56, 56)


@pytest.mark.parametrize(
    ("changed", "transform"),
    [
        ({"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}, ImageTransform(56, 56, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))),
        ({"crop_pct": 0.875, "interpolation": "bilinear"}, ImageTransform(64, 56, resample=2)),
    ],
)
def test_timms_preprocessing_is_taken(tmp_path, network, changed, transform):
    tensors, config = timm(network)
    config["pretrained_cfg"].update(changed)
    assert checkpoint.find(stored(tmp_path, tensors, config)).transform == transform


def test_timms_preprocessing_must_be_whole(tmp_path, network):
    tensors, config = timm(network)
    del config["pretrained_cfg"]["mean"]
    with pytest.raises(InputError, match="config.json does not hold the sizes, means and deviations of a processor"):
        checkpoint.find(stored(tmp_path, tensors, config))


@pytest.mark.parametrize("wrapper", [None, "module", "model", "state_dict"])
def test_the_authors_file_loads_by_their_names_and_its_projector_is_counted(tmp_path, cpu, wrapper, configuration):
    network = randomised(SHAPES["tiny-224"])
    projector = {"clip_projector.norm1_q.weight": torch.ones(3), "clip_projector.cross_attn.q_bias": torch.ones(3)}
    tensors = in_the_authors_names(network) | projector
    torch.save({wrapper: tensors, "config": configuration} if wrapper else tensors, tmp_path / "intern_vit.pth")
    loaded = load(str(tmp_path / "intern_vit.pth"), cpu)
    assert loaded.facts().ignored_tensors == 2
    assert_the_same_network(loaded, network)


@pytest.fixture
def training(tmp_path, network, configuration):
    """A function that writes what the authors' training writes, with the head that it trained."""

    def write(**more):
        head = official_head(128, 11)
        model = OrderedDict(in_the_authors_names(network) | cloned(head.state_dict()) | more)
        optimizer = torch.optim.AdamW(
            [torch.nn.Parameter(tensor) for tensor in head.state_dict().values() if tensor.is_floating_point()]
        )
        content = {"model": model, "optimizer": optimizer.state_dict(), "lr_scheduler": {"base_values": [1e-3], "t": 3}}
        content |= {"max_accuracy": 88.2, "epoch": 9, "config": configuration, "amp": {"scale": 65536.0}}
        torch.save(content, tmp_path / "ckpt_epoch_9.pth")
        return tmp_path / "ckpt_epoch_9.pth", head

    return write


def test_of_the_authors_training_checkpoint_the_weights_are_taken_and_its_head(training, cpu, network):
    path, head = training()
    loaded = load(str(path), cpu)
    assert_the_same_network(loaded, network)
    assert loaded.facts().head_file == path.name
    assert loaded.facts().ignored_tensors is None
    hidden = torch.randn(3, 17, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(
            loaded.head(hidden), head.eval()(hidden), rtol=1e-5, atol=1e-4
        )  # BatchNorm is folded


@pytest.mark.parametrize("file", SAVED)
def test_the_head_beside_the_network_is_read_from_every_kind_of_file(tmp_path, cpu, network, file):
    tensors, config = authors(network)
    loaded = load(stored(tmp_path, tensors | official_head(128, 11).state_dict(), config, file), cpu)
    assert_the_same_network(loaded, network)
    assert len(loaded.classes) == 11
    assert loaded.facts().head_file == file


def test_a_network_without_a_head_is_refused_as_a_head(tmp_path, cpu, network):
    torch.save(in_the_authors_names(network), tmp_path / "intern_vit.pth")
    with pytest.raises(InputError, match="intern_vit.pth holds no head.* or norm.*: a head is norm.* and head.*"):
        load("tiny", cpu, head=tmp_path / "intern_vit.pth")


def test_a_head_that_is_given_goes_before_the_checkpoints_own(training, cpu, tmp_path):
    path, _ = training()
    save_file({"weight": torch.ones(3, 128), "bias": torch.ones(3)}, tmp_path / "other.safetensors")
    assert len(load(str(path), cpu, head=tmp_path / "other.safetensors").classes) == 3


def test_a_norm_after_the_last_block_is_no_head_and_is_refused(tmp_path, cpu, network):
    tensors, config = authors(network)
    tensors |= {
        "norm.weight": torch.ones(128),
        "norm.bias": torch.ones(128),
        "head.weight": torch.ones(3, 128),
        "head.bias": torch.ones(3),
    }
    with pytest.raises(InputError, match="norm.weight is unexpected"):
        load(stored(tmp_path, tensors, config), cpu)


def test_an_attention_pooling_head_is_refused_by_name(training, cpu, tmp_path):
    sentence = "holds attn_pool.latent, of an attention-pooling head, which is not supported: give weights without it"
    path, _ = training(**{"attn_pool.latent": torch.ones(1, 1, 128)})
    with pytest.raises(InputError, match=sentence):
        checkpoint.find(str(path))
    torch.save({"attn_pool.latent": torch.ones(1, 1, 128), "head.weight": torch.ones(3, 128)}, tmp_path / "head.pth")
    with pytest.raises(InputError, match=sentence):
        load("tiny", cpu, head=tmp_path / "head.pth")


def test_a_config_beside_the_authors_file_holds(model_folder, small_network, cpu):
    torch.save({"module": in_the_authors_names(small_network)}, model_folder / "intern_vit.pth")
    assert load(str(model_folder / "intern_vit.pth"), cpu).network.config == SMALL


def test_a_file_of_unknown_width_without_config_asks_for_one(tmp_path, small_network):
    torch.save(in_the_authors_names(small_network), tmp_path / "intern_vit.pth")
    with pytest.raises(InputError, match="put its config.json beside it"):
        checkpoint.find(str(tmp_path / "intern_vit.pth"))


@pytest.mark.parametrize("shape", ["300m-448", "6b-448"])
def test_the_config_of_every_published_network_is_told_from_its_shapes(shape):
    with torch.device("meta"):
        state = InternViT(SHAPES[shape]).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert formats.config_of(formats.PUBLISHED, shapes, Path("x.pth")) == SHAPES[shape]


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        *((without(published_config(CONFIG), key), f"config.json has no {key}, and") for key in formats.REQUIRED),
        ({}, "has no hidden_size, .*, and config.json is of an unknown model"),
        ({"model_type": "clip"}, "config.json is of model_type 'clip': give the folder of an InternViT"),
        ({"architectures": ["X"]}, "config.json is of an unknown model: give the folder of an InternViT"),
        (
            {"model_type": "internvl_chat", "vision_config": published_config(CONFIG)},
            r"config.json is a chat model's \(internvl_chat\): give the chat model's own folder",
        ),
        (
            {"architecture": "vit_large_patch14"},
            "config.json is timm's, of vit_large_patch14: of timm's models only vit_intern300m",
        ),
    ],
)
def test_a_config_without_the_networks_keys_is_never_read_as_the_6b_network(tmp_path, network, config, sentence):
    with pytest.raises(InputError, match=sentence):
        checkpoint.find(stored(tmp_path, network.state_dict(), config))


@pytest.mark.parametrize("form", [chat, transformers, transformers_chat, timm], ids=lambda form: form.__name__)
def test_another_formats_config_without_the_networks_keys_is_refused(tmp_path, network, form):
    tensors, config = form(network)
    config.pop("hidden_size", config.get("vision_config", {}).pop("hidden_size", None))
    config |= {"architecture": "vit_large_patch14_dinov2"} if form is timm else {}
    with pytest.raises(InputError, match=r"config.json has no hidden_size"):
        checkpoint.find(stored(tmp_path, tensors, config))


def test_the_published_6b_config_has_no_norm_type_and_means_rms_norm(tmp_path, cpu):
    network = randomised(RMS_NORM)
    config = without(
        published_config(RMS_NORM), "norm_type", "qk_normalization", "qkv_bias", "layer_norm_eps", "num_channels"
    )
    assert_the_same_network(load(stored(tmp_path, network.state_dict(), config), cpu), network)


@pytest.mark.parametrize(
    "form", [published, chat, transformers, transformers_chat, authors], ids=lambda form: form.__name__
)
def test_another_activation_than_gelu_is_refused(tmp_path, network, form):
    tensors, config = form(network)
    config.get("vision_config", config)["hidden_act"] = "quick_gelu"
    with pytest.raises(InputError, match="hidden_act is 'quick_gelu', and this network computes 'gelu' only"):
        checkpoint.find(stored(tmp_path, tensors, config))


def test_sides_of_another_length_are_refused(tmp_path, network):
    tensors, config = transformers(network)
    with pytest.raises(InputError, match=r"image_size is \[56, 84\], where a value such as 224 is expected"):
        checkpoint.find(stored(tmp_path, tensors, config | {"image_size": [56, 84]}))


def test_weights_of_another_model_are_named(tmp_path):
    model = stored(
        tmp_path, {"model.embed_tokens.weight": torch.ones(2), "lm_head.weight": torch.ones(2)}, {"model_type": "qwen2"}
    )
    with pytest.raises(
        InputError,
        match=r"holds no InternViT: its tensors \(.*lm_head.weight.*\) are not named .* model_type 'qwen2': give",
    ):
        checkpoint.find(model)


def change_one(tensors, ending, change):
    name = next(name for name in tensors if name.endswith(ending))
    return without(tensors, name) | change(name, tensors[name])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda name, tensor: {}, "{} is missing"),
        (
            lambda name, tensor: {name: tensor, f"{name}.more": tensor},
            r"{}.more is unexpected \(in model.safetensors\)",
        ),
        (
            lambda name, tensor: {name: tensor[:5]},
            r"{} \(in model.safetensors\) has shape .5,.* where config.json implies .128,",
        ),
        (lambda name, tensor: {f"{name}x": tensor}, r"{} is missing; {}x is unexpected"),
    ],
    ids=["missing", "unexpected", "shape", "renamed"],
)
@pytest.mark.parametrize(
    ("form", "ending"),
    [
        (chat, "1.norm1.bias"),
        (transformers, "1.attention.k_proj.weight"),
        (transformers_chat, "0.lambda_1"),
        (authors, "1.ls2.gamma"),
        (timm, "0.mlp.fc2.bias"),
    ],
    ids=["chat", "transformers", "hf", "authors", "timm"],
)
def test_every_format_is_strict_and_names_what_is_wrong_as_it_is_stored(
    tmp_path, cpu, network, form, ending, change, sentence
):
    tensors, config = form(network)
    name = next(name for name in tensors if name.endswith(ending))
    with pytest.raises(InputError, match=sentence.format(name, name)):
        load(stored(tmp_path, change_one(tensors, ending, change), config), cpu)


def test_names_of_two_formats_in_one_file_are_refused(tmp_path, cpu, network):
    tensors, config = transformers(network)
    tensors |= {"encoder.layers.0.ls1": network.state_dict()["encoder.layers.0.ls1"]}
    with pytest.raises(InputError, match="encoder.layers.0.ls1 is unexpected"):
        load(stored(tmp_path, tensors, config), cpu)


def test_damage_in_a_third_of_a_tensor_is_named_as_it_is_stored(tmp_path, cpu, network):
    tensors, config = transformers(network)
    name = "encoder.layer.1.attention.v_proj.weight"
    with pytest.raises(InputError, match=f"model.safetensors is damaged: {name} is all zeros"):
        load(stored(tmp_path, tensors | {name: torch.zeros(128, 128)}, config), cpu)


def test_networks_of_two_sizes_are_told_apart(tmp_path, cpu, network):
    tensors, config = chat(network)
    config["vision_config"] |= asdict(replace(CONFIG, num_hidden_layers=3))
    with pytest.raises(InputError, match="vision_model.encoder.layers.2.ls1 is missing"):
        load(stored(tmp_path, tensors, config), cpu)
