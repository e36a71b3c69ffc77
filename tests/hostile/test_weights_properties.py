"""Whatever a weights folder holds, looking at it ends in an answer or in one sentence."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ivit_helpers.weights.pickles import read_state_dict
from safetensors.torch import save_file

from ivit_helpers.errors import InputError
from ivit_helpers.paths import DATA
from ivit_helpers.weights import checkpoint, head

TINY = DATA / "tiny-internvit"
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([0, 1, 14, 224, 10**9, -1, 1e-6]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
ANY_BYTES = settings(max_examples=300, deadline=None, derandomize=True)
ANY_JSON = settings(max_examples=100, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the miniature, in which a test leaves its own files."""
    return Path(shutil.copytree(TINY, tmp_path_factory.mktemp("any") / "model"))


@pytest.fixture(scope="module")
def small():
    """Tensors of a small file."""
    return {"weight": torch.arange(12.0).view(3, 4), "bias": torch.ones(3)}


def answered_or_refused(*ask):
    """The sentence that was said in place of an answer; empty for an answer."""
    said = ""
    try:
        for one in ask:
            one()
    except InputError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 3000
    assert not any(word in said for word in ("weights_only", "safe_globals", "Traceback"))
    return said


def looked_at(model, head=""):
    return answered_or_refused(
        lambda: checkpoint.check(str(model), str(head)), lambda: checkpoint.find(str(model), str(head))
    )


@st.composite
def near(draw, name):
    """The miniature's JSON file with some of its values replaced, left out or added."""
    content = json.loads((TINY / name).read_text())
    known = sorted(
        {
            *content,
            "norm_type",
            "do_rescale",
            "rescale_factor",
            "vision_config",
            "pretrained_cfg",
            "architecture",
            "weight_map",
        }
    )
    changes = draw(st.dictionaries(st.sampled_from(known) | st.text(max_size=5), JSON, min_size=1, max_size=3))
    without = draw(st.sets(st.sampled_from(sorted(content)), max_size=1))
    return {key: value for key, value in (content | changes).items() if key not in without}


@st.composite
def mutated(draw, whole):
    """Bytes of which some are overwritten, and which may end early or go on."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(content) - 1))
        part = draw(st.binary(min_size=1, max_size=8))
        content[begin : begin + len(part)] = part
    cut = draw(st.sampled_from([0, 0, 0, 1, 30]))
    return bytes(content[: len(content) - cut]) + draw(st.sampled_from([b"", b"", b"x"]))


def with_file(folder, name, content):
    """Look at the folder with this file in it, and put its own back."""
    own = (folder / name).read_bytes()
    try:
        (folder / name).write_bytes(content)
        return looked_at(folder)
    finally:
        (folder / name).write_bytes(own)


def test_the_folder_itself_is_accepted(folder):
    assert not looked_at(folder)


@ANY_JSON
@given(content=near("config.json"))
def test_any_config(folder, content):
    with_file(folder, "config.json", json.dumps(content).encode())


@ANY_JSON
@given(content=near("preprocessor_config.json"))
def test_any_preprocessor_config(folder, content):
    with_file(folder, "preprocessor_config.json", json.dumps(content).encode())


@ANY_JSON
@given(
    content=near("config.json"),
    processor=JSON | st.dictionaries(st.sampled_from(["crop_pct", "interpolation", "mean", "std"]), JSON),
)
def test_any_config_of_timm(folder, content, processor):
    (folder / "preprocessor_config.json").rename(folder / "aside")
    try:
        with_file(folder, "config.json", json.dumps(content | {"pretrained_cfg": processor}).encode())
    finally:
        (folder / "aside").rename(folder / "preprocessor_config.json")


@ANY_JSON
@given(
    where=JSON
    | st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.sampled_from(["..", ".", "x.bin", "/", "a/b.bin"]))
)
def test_any_index(folder, where):
    assert with_file(folder, "pytorch_model.bin.index.json", json.dumps({"weight_map": where}).encode())


@ANY_BYTES
@given(st.data())
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "pytorch_model.bin.index.json"])
def test_any_bytes_of_json(folder, name, data):
    with_file(folder, name, data.draw(mutated((TINY / name).read_bytes())))


@ANY_BYTES
@given(st.data())
def test_any_bytes_of_an_archive(folder, small, data):
    torch.save(small, folder / "sound.pth")
    (folder / "x.pth").write_bytes(data.draw(mutated((folder / "sound.pth").read_bytes())))
    looked_at(folder / "x.pth")
    looked_at("tiny", folder / "x.pth")
    answered_or_refused(lambda: head.head_classes(folder / "x.pth"))


@ANY_BYTES
@given(st.data())
def test_any_bytes_of_a_pickle(folder, small, data):
    """The pickle is changed where it is in the archive: it has no compression, and no checksum that is compared."""
    torch.save(small, folder / "sound.pth")
    whole = (folder / "sound.pth").read_bytes()
    begin, end = whole.index(b"\x80\x02"), whole.index(b"PK\x07\x08")
    changed = data.draw(mutated(whole[begin:end]))[: end - begin].ljust(end - begin, b".")
    (folder / "x.pth").write_bytes(whole[:begin] + changed + whole[end:])
    answered_or_refused(lambda: read_state_dict(folder / "x.pth"))


@ANY_BYTES
@given(st.data())
def test_any_bytes_of_safetensors(folder, small, data):
    save_file(small, folder / "sound.safetensors", metadata={"classes": '["a", "b", "c"]'})
    (folder / "x.safetensors").write_bytes(data.draw(mutated((folder / "sound.safetensors").read_bytes())))
    looked_at(folder / "x.safetensors")
    looked_at("tiny", folder / "x.safetensors")
    answered_or_refused(lambda: head.head_classes(folder / "x.safetensors"))
