"""Cases: weight files, heads and configurations."""

import ctypes
import json
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from pickle import encode_long
from typing import Any

import torch
from safetensors.torch import save_file

from ivit_helpers.paths import DATA
from tests.hostile.case import Case, Ends

TINY = DATA / "tiny-internvit"
Make = Callable[[Path], Mapping[str, Any]]


def copied(folder: Path) -> Path:
    """The miniature's folder, its weights as links."""
    model = folder / "model"
    model.mkdir()
    for path in TINY.iterdir():
        if path.suffix == ".json":
            (model / path.name).write_bytes(path.read_bytes())
        else:
            (model / path.name).symlink_to(path)
    return model


def with_file(name: str, content: bytes | Callable[[Path], object]) -> Make:
    """The miniature with one file in the place of its own: its bytes, or what makes it."""

    def make(folder: Path) -> dict[str, Any]:
        path = copied(folder) / name
        path.unlink(missing_ok=True)
        path.write_bytes(content) if isinstance(content, bytes) else content(path)
        return {"model": str(path.parent)}

    return make


def with_keys(name: str, **changes: object) -> Make:
    """The miniature with other values in one of its JSON files."""
    return with_file(name, json.dumps(json.loads((TINY / name).read_text()) | changes).encode())


def with_text(name: str, written: str, instead: str) -> Make:
    """The miniature with other text in one of its JSON files."""
    return with_file(name, (TINY / name).read_text().replace(written, instead).encode())


def config(**changes: object) -> Make:
    return with_keys("config.json", **changes)


def processor(**changes: object) -> Make:
    return with_keys("preprocessor_config.json", **changes)


FIRST, INDEX = "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"


def index(where: object) -> Make:
    return with_file(INDEX, json.dumps({"weight_map": where}).encode())


def long_index(tensors: int, shards: int) -> Make:
    """The miniature with an index of that many tensors in that many shards."""
    where = ((f"t{number}", f"{number % shards}.bin") for number in range(tensors))
    return with_file(INDEX, lambda path: path.write_text(json.dumps({"weight_map": dict(where)})))


def unreadable(path: Path) -> None:
    """A file without permissions, for a process that is bound by them even if root runs it."""
    path.write_text("{}")
    path.chmod(0)
    libc = ctypes.CDLL(None)
    libc.capset(
        (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    )  # capabilities(7): version 3, this process, none left


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def given(**parameters: object) -> Make:
    return lambda _: parameters


# Pickles, opcode by opcode


def text(content: str) -> bytes:
    return b"X" + struct.pack("<I", len(content)) + content.encode()


def number(value: int) -> bytes:
    written = encode_long(value)
    return b"\x8a" + bytes([len(written)]) + written


def together(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def named(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def called(name: str, *arguments: bytes) -> bytes:
    return named(name) + together(*arguments) + b"R"


def tensor(
    shape: tuple[int, ...] = (2,),
    stride: tuple[int, ...] = (1,),
    offset: int = 0,
    kind: str = "torch.FloatStorage",
    count: int = 2,
) -> bytes:
    storage = together(text("storage"), named(kind), text("0"), text("cpu"), number(count)) + b"Q"
    sides, steps = (together(*map(number, numbers)) for numbers in (shape, stride))
    hooks = called("collections.OrderedDict")
    return called("torch._utils._rebuild_tensor_v2", storage, number(offset), sides, steps, b"\x89", hooks)


def state_dict(value: bytes, name: bytes | None = None) -> bytes:
    return b"\x80\x02}" + (text("weight") if name is None else name) + value + b"s."


def archive(
    content: bytes | Callable[[], bytes],
    packed: int = zipfile.ZIP_STORED,
    twice: bool = False,
    inside: str = "",
    **records: bytes,
) -> Callable[[Path], None]:
    """An archive as torch.save writes it, of this pickle and one storage of 8 bytes."""

    def write(path: Path) -> None:
        everything = {
            "data.pkl": content() if callable(content) else content,
            "byteorder": b"little",
            "data/0": bytes(8),
            "version": b"3\n",
        } | records
        with zipfile.ZipFile(path, "w", packed) as target:
            for name, record in everything.items():
                target.writestr(f"x/{name}", record)
            if twice:
                target.filelist += [target.filelist[-1]] * 100_000
            if inside:
                other = copy(target.filelist[-1])
                other.filename, other.header_offset = f"x/{inside}", other.header_offset - 4
                target.filelist.append(other)

    return write


def pickled(content: bytes | Callable[[], bytes], **kind: Any) -> Make:
    """A weights file of this pickle."""

    def make(folder: Path) -> dict[str, Any]:
        archive(content, **kind)(folder / "weights.bin")
        return {"model": folder / "weights.bin"}

    return make


def safetensors(header: bytes, length: int | None = None, data: bytes = bytes(8)) -> Make:
    def make(folder: Path) -> dict[str, Any]:
        path = folder / "weights.safetensors"
        path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
        return {"model": path}

    return make


def entry(**changes: object) -> bytes:
    return json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}).encode()


def many_shards(folder: Path) -> dict[str, Any]:
    model = copied(folder)
    archive(b"\x80\x02}" + b"q\x00" * 50_000 + b".")(model / "0.bin")
    for number in range(1, 1000):
        (model / f"{number}.bin").symlink_to("0.bin")
    for path in model.glob("pytorch_model-*"):
        path.unlink()
    where = {f"t{number}": f"{number}.bin" for number in range(1000)} | {"embeddings.class_embedding": "0.bin"}
    (model / INDEX).write_text(json.dumps({"weight_map": where}))
    return {"model": str(model)}


def head(write: Callable[[Path], object], name: str = "head.safetensors") -> Make:
    def make(folder: Path) -> dict[str, Any]:
        write(folder / name)
        return {"model": "tiny", "head": folder / name}

    return make


def linear(classes: str) -> Callable[[Path], None]:
    """A head for the miniature with this for its class names."""
    tensors = {"weight": torch.ones(10, 128), "bias": torch.ones(10)}
    return lambda path: save_file(tensors, path, metadata={"classes": classes})


def damaged(name: str, change: Callable[[torch.Tensor], object]) -> Make:
    """The miniature with one of its tensors changed."""

    def make(folder: Path) -> dict[str, Any]:
        model = copied(folder)
        tensors = torch.load(model / FIRST, weights_only=True)
        change(tensors[name])
        (model / FIRST).unlink()
        torch.save(tensors, model / FIRST)
        return {"model": str(model)}

    return make


def whole_tensor(name: str, value: torch.Tensor) -> Make:
    """The miniature with one tensor replaced, or added."""

    def make(folder: Path) -> dict[str, Any]:
        model = copied(folder)
        tensors = torch.load(model / FIRST, weights_only=True) | {name: value}
        (model / FIRST).unlink()
        torch.save(tensors, model / FIRST)
        return {"model": str(model)}

    return make


def empty_folder(folder: Path) -> dict[str, Any]:
    (folder / "model").mkdir()
    return {"model": folder / "model"}


def smoke(name: str, make: Make, says: str, ends: Ends = "refused") -> Case:
    return Case(name, make, says, "smoke", ends)


NO_FEATURES = b'{"weight": {"dtype": "F32", "shape": [1000000000, 0], "data_offsets": [0, 0]}}'
PROCESSOR = "preprocessor_config.json"
NESTED = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
DOUBLED = b")" + b"q\x00h\x00\x86" * 60
"""A tuple of a tuple twice, 60 times over: comparing it takes 2**60 steps"""
COPIES = b"\x80\x02]q\x00(" + b"K\x01" * 200_000 + b"e]" + (named("builtins.set") + b"h\x00\x85Ra") * 1000 + b"."
DAMAGED = "(damaged|incomplete)"

CASES = [
    smoke("an empty folder in place of a model", empty_folder, r"has no config\.json"),
    smoke("a device in place of a model", given(model="/dev/zero"), "/dev/zero' is not a folder"),
    smoke("a model name of 5,000 characters", given(model="a/" + "b" * 5000), "File name too long"),
    smoke("a model in the home folder of nobody", given(model="~nobody-such-user/model"), "cannot be a path"),
    smoke("a NUL byte in the name of a model", given(model="a\x00b"), "cannot be a path"),
    smoke("an unknown random shape", given(model="random:1000b"), "may be random:6b-224"),
    # what a configuration is written as
    smoke("an empty config.json", with_file("config.json", b""), "config.json is not JSON"),
    smoke("a config.json that is a list", with_file("config.json", b"[]"), "does not hold a JSON object"),
    smoke("a config.json nested 100,000 deep", with_file("config.json", NESTED), "nested more than 20 deep"),
    smoke("a config.json of one terabyte (sparse)", with_file("config.json", sparse), "more than 1,048,576 bytes"),
    smoke(
        "a config.json of 300,000 empty lists",
        with_file("config.json", lambda path: path.write_text('{"a": [' + "[]," * 300_000 + "[]]}")),
        "has no hidden_size",
    ),
    smoke(
        "a config.json with a byte order mark",
        with_file("config.json", b"\xef\xbb\xbf{}"),
        "not JSON .Unexpected UTF-8 BOM",
    ),
    smoke("a config.json in UTF-16", with_file("config.json", "{}".encode("utf-16")), "not JSON .'utf-8' codec"),
    smoke(
        "a config.json with bytes that are not UTF-8",
        with_file("config.json", b'{"a": "\xff"}'),
        "not JSON .'utf-8' codec",
    ),
    smoke(
        "a config.json with a NUL byte",
        with_file("config.json", b'{"a": "\x00"}'),
        "not JSON .Invalid control character",
    ),
    smoke(
        "a key twice in config.json",
        with_text("config.json", '"patch_size": 14', '"patch_size": 14, "patch_size": 28'),
        "'patch_size' is written twice",
    ),
    smoke(
        "a number of 10,000 digits in config.json",
        with_text("config.json", "512", "9" * 10_000),
        "not JSON .Exceeds the limit",
    ),
    smoke("NaN in config.json", with_text("config.json", "1e-06", "NaN"), "'NaN' is not a finite number"),
    smoke("1e400 in config.json", with_text("config.json", "1e-06", "1e400"), "'1e400' is not a finite number"),
    # files that are no files
    smoke("a config.json that is a folder", with_file("config.json", Path.mkdir), "config.json is a folder"),
    smoke("a config.json that is a pipe", with_file("config.json", os.mkfifo), "config.json is a pipe"),
    smoke("a config.json that is a socket", with_file("config.json", socket), "config.json is a socket"),
    smoke(
        "a config.json that is a link to /dev/zero",
        with_file("config.json", link_to("/dev/zero")),
        "config.json is a device",
    ),
    smoke(
        "a config.json that is a link to nothing",
        with_file("config.json", link_to("nothing")),
        "is a link to a file that is not there",
    ),
    smoke(
        "a config.json that is a link to itself",
        with_file("config.json", link_to("config.json")),
        "Too many levels of symbolic links",
    ),
    smoke(
        "a config.json that may not be read",
        with_file("config.json", unreadable),
        "config.json cannot be opened .Permission denied",
    ),
    smoke(
        "a preprocessor_config.json that is a link to nothing",
        with_file(PROCESSOR, link_to("nothing")),
        "is a link to a file that is not",
    ),
    smoke(
        "a preprocessor_config.json that is a pipe",
        with_file(PROCESSOR, os.mkfifo),
        "preprocessor_config.json is a pipe",
    ),
    smoke("a weights index that is a pipe", with_file(INDEX, os.mkfifo), "index.json is a pipe"),
    smoke("a weights file that is a pipe", with_file(FIRST, os.mkfifo), f"{FIRST} is a pipe"),
    smoke("a weights file that is a folder", with_file(FIRST, Path.mkdir), f"{FIRST} is a folder"),
    smoke(
        "a weights file that is a link to /dev/urandom",
        with_file(FIRST, link_to("/dev/urandom")),
        f"{FIRST} is a device",
    ),
    smoke(
        "a weights file that may not be read",
        with_file(FIRST, unreadable),
        f"{FIRST} cannot be opened .Permission denied",
    ),
    smoke("a weights file of one terabyte of zeros (sparse)", with_file(FIRST, sparse), "cannot be read as weights"),
    # values that are not computed
    smoke("a million layers", config(num_hidden_layers=10**6), "num_hidden_layers is 1000000, and it may be 1 to 256"),
    smoke("a width of 10**12", config(hidden_size=10**12), "hidden_size is 1000000000000, and it may be 1 to 16384"),
    smoke("a width in quotation marks", config(hidden_size="128"), "hidden_size is '128', where a value such as 3200"),
    smoke("a width of true", config(hidden_size=True), "hidden_size is True, where a value such as 3200"),
    smoke("a width of 128.0", config(hidden_size=128.0), "hidden_size is 128.0, where a value such as 3200"),
    smoke("no width (null)", config(hidden_size=None), "hidden_size is None, where a value such as 3200"),
    smoke("a list of layers", config(num_hidden_layers=[4]), r"num_hidden_layers is \[4\], where a value such as 48"),
    smoke("0 heads", config(num_attention_heads=0), "num_attention_heads is 0, where a value such as 25"),
    smoke("-4 layers", config(num_hidden_layers=-4), "num_hidden_layers is -4, where a value such as 48"),
    smoke(
        "7 heads for a width of 128",
        config(num_attention_heads=7),
        "hidden_size 128 does not divide into 7 attention heads",
    ),
    smoke(
        "images of 225 pixels in patches of 14",
        config(image_size=225),
        "image_size 225 is not a multiple of patch_size 14",
    ),
    smoke(
        "images of one million pixels a side",
        config(image_size=14 * 10**5),
        "image_size is 1400000, and it may be 1 to 2048",
    ),
    smoke("images of four channels", config(num_channels=4), "num_channels is 4, and it may be 3 to 3"),
    smoke("an epsilon of 0", config(layer_norm_eps=0), "layer_norm_eps is 0, where a value such as 1e-06"),
    smoke("an epsilon of 1", config(layer_norm_eps=1), "layer_norm_eps is 1, and it may be 1e-12 to 0.001"),
    smoke("an unknown norm", config(norm_type="batch_norm"), "norm_type 'batch_norm' is not known"),
    smoke(
        "another activation", config(hidden_act="relu"), "hidden_act is 'relu', and this network computes 'gelu' only"
    ),
    smoke("qkv_bias in quotation marks", config(qkv_bias="false"), "qkv_bias is 'false', where a value such as False"),
    smoke(
        "a qk_normalization of null",
        config(qk_normalization=None),
        "qk_normalization is None, where a value such as True",
    ),
    smoke(
        "a chat model's config without its vision_config",
        config(vision_config=3, hidden_size=[[[1]]]),
        "hidden_size is",
    ),
    # preprocessing
    smoke("do_normalize is false", processor(do_normalize=False), "do_normalize is False, and only true is computed"),
    smoke("do_resize is false", processor(do_resize=False), "do_resize is False, and only true is computed"),
    smoke(
        "do_center_crop is false", processor(do_center_crop=False), "do_center_crop is False, and only true is computed"
    ),
    smoke("do_rescale is false", processor(do_rescale=False), "do_rescale is False, and only true is computed"),
    smoke("images are padded (do_pad)", processor(do_pad=True), "do_pad is True, and only false is computed"),
    smoke(
        "a rescale_factor of 1/127.5",
        processor(rescale_factor=1 / 127.5),
        "rescale_factor is 0.0078.*, and only 1/255 is computed",
    ),
    smoke("a size that is no square", processor(size={"height": 224, "width": 336}), "size is .*of a square"),
    smoke("a size by its longest edge", processor(size={"longest_edge": 224}), "size is .*of a square"),
    smoke("a size of 0", processor(size=0), "size is 0, and it may be one number of pixels from 1"),
    smoke("a size of a million pixels", processor(size=10**6, crop_size=10**6), "size is 1000000, and it may be"),
    smoke(
        "a crop larger than the resized image",
        processor(crop_size=448),
        "crop_size is 448, which is larger than size, 224",
    ),
    smoke(
        "a crop that is no multiple of a patch",
        processor(crop_size=100),
        "crop_size is 100, and the network needs a multiple",
    ),
    smoke(
        "two means for three channels",
        processor(image_mean=[0.5, 0.5]),
        "image_mean is .*a list of three numbers from 0 to 1",
    ),
    smoke(
        "a deviation of 0", processor(image_std=[0.2, 0, 0.2]), "image_std is .*a list of three numbers from 0.01 to 1"
    ),
    smoke(
        "a mean of -123", processor(image_mean=[-123, 0.5, 0.5]), "image_mean is .*a list of three numbers from 0 to 1"
    ),
    smoke(
        "means in quotation marks",
        processor(image_mean="0.5"),
        "image_mean is '0.5', and it may be a list of three numbers",
    ),
    smoke(
        "a resampling that does not exist",
        processor(resample=17),
        "resample is 17, and it may be one of 0, 1, 2, 3, 4, 5",
    ),
    smoke("a resampling of true", processor(resample=True), "resample is True, and it may be one of 0"),
    # indexes
    smoke(
        "an index that names a file outside the folder",
        index({"x": "../other.bin"}),
        "names '../other.bin': a shard must be a file of",
    ),
    smoke("an index that names the folder above", index({"x": ".."}), "names '..': a shard must be a file of"),
    smoke("an index that names an empty name", index({"x": ""}), "names '': a shard must be a file of"),
    smoke(
        "an index that names a program",
        index({"x": "modeling.py"}),
        "a shard must be a file of this folder, and end in .bin",
    ),
    smoke(
        "an index with a NUL byte in a file name", index({"x": "a\x00.bin"}), "a shard must be a file of this folder"
    ),
    smoke(
        "an index with a file name of 400 letters",
        index({"x": FIRST, "y": FIRST.replace("1", "2", 1), "embeddings.class_embedding": "a" * 400 + ".bin"}),
        "File name too long",
    ),
    smoke("an index of a million shards", long_index(10**6, 10**6), "more than 8,388,608 bytes"),
    smoke(
        "an index of 5,000 shards",
        long_index(5000, 5000),
        "names 5,000 shards, and at most 1,024",
    ),
    smoke("an index of 100,000 tensors", long_index(10**5, 2), "more than 65,536 tensors"),
    smoke(
        "an index with line breaks in the name of a tensor",
        index({"x\ny": FIRST}),
        "whose name is too long or cannot be printed",
    ),
    smoke("1,000 weight files of 100,000 opcodes each", many_shards, "more than 4,194,304 bytes of names and shapes"),
    # pickles
    smoke(
        "a pickle that runs a command",
        pickled(state_dict(called("posix.system", text("true")))),
        "refused: it names posix.system",
    ),
    smoke(
        "a pickle that asks for a terabyte",
        pickled(state_dict(called("builtins.bytearray", number(2**40)))),
        "refused: it names bytearray",
    ),
    smoke(
        "a pickle packed from 200 MB to 200 kB",
        pickled(lambda: b"\x80\x02" + b"N" * 200_000_000, packed=zipfile.ZIP_DEFLATED),
        "one of its records is compressed",
    ),
    smoke(
        "a pickle of 20 million opcodes",
        pickled(lambda: b"\x80\x02" + b"N" * 20_000_000),
        "longer than 4,194,304 bytes",
    ),
    smoke(
        "a pickle of 4 million opcodes", pickled(lambda: b"\x80\x02" + b"N" * 4_000_000), "more than 524,288 opcodes"
    ),
    smoke("a pickle nested 500,000 deep", pickled(b"\x80\x02)" + b"\x85" * 500_000 + b"."), "holds no state dict"),
    smoke(
        "a pickle of doubled tuples as a key",
        pickled(state_dict(b"N", name=DOUBLED)),
        "a key that is neither a text nor a small whole number",
    ),
    smoke("a pickle of doubled tuples as a value", pickled(state_dict(DOUBLED)), "holds no state dict"),
    smoke("a pickle that copies a list 1,000 times", pickled(COPIES), "it copies more than 1,048,576 items"),
    smoke(
        "a pickle with colliding keys",
        pickled(b"\x80\x02}(" + b"".join(number(step * (2**61 - 1)) + b"N" for step in range(1, 50_000)) + b"u."),
        "neither a text nor a small whole number",
    ),
    smoke("a pickle with a text of 4 GB that is not there", pickled(b"\x80\x02X\xff\xff\xff\xffabc."), DAMAGED),
    smoke("a pickle with a number of 2 GB that is not there", pickled(b"\x80\x02\x8b\xff\xff\xff\x7f1."), DAMAGED),
    smoke(
        "a pickle with bytes of 2**63 that are not there", pickled(b"\x80\x02\x8e" + b"\xff" * 7 + b"\x7f."), DAMAGED
    ),
    smoke("a pickle of protocol 5", pickled(b"\x80\x05}."), "its pickle protocol is not 2"),
    smoke("a pickle that takes what it did not put", pickled(b"\x80\x02\x86."), DAMAGED),
    smoke(
        "a pickle that sets the methods of a dict",
        pickled(b"\x80\x02" + called("collections.OrderedDict") + b"}" + text("get") + b"Nsb."),
        "it sets attributes",
    ),
    smoke(
        "a tensor of 10 GB from one value",
        pickled(state_dict(tensor((2**31,), (0,)))),
        r"shape \(2147483648,\) that reaches beyond its storage of 8 bytes",
    ),
    smoke(
        "a tensor behind its storage",
        pickled(state_dict(tensor(offset=10**15))),
        "reaches beyond its storage of 8 bytes",
    ),
    smoke(
        "a tensor before its storage", pickled(state_dict(tensor(offset=-(10**15)))), "are not whole numbers from 0 on"
    ),
    smoke("a tensor of -2 values", pickled(state_dict(tensor((-2,)))), "are not whole numbers from 0 on"),
    smoke(
        "a tensor of 2**64 values", pickled(state_dict(tensor((2**32, 2**32), (0, 0)))), "reaches beyond its storage"
    ),
    smoke(
        "a storage longer than its record",
        pickled(state_dict(tensor(count=10**12))),
        "missing or not of the length that its pickle says",
    ),
    smoke("a big-endian pickle", pickled(state_dict(tensor()), byteorder=b"big"), "byteorder is not 'little'"),
    smoke(
        "an archive that lists one record 100,000 times",
        pickled(state_dict(tensor()), twice=True),
        "cannot be read as weights",
    ),
    smoke(
        "a TorchScript program", pickled(state_dict(tensor()), **{"constants.pkl": b"x"}), "it is a TorchScript program"
    ),
    smoke(
        "line breaks in the name of a tensor",
        pickled(state_dict(tensor(), name=text("x\nivit: all is well"))),
        "cannot be printed",
    ),
    smoke(
        "an archive with one record inside another",
        pickled(state_dict(tensor()), inside="data/1"),
        "two of its records overlap",
    ),
    smoke(
        "an archive that lists one record by two names",
        pickled(state_dict(tensor()), inside="DATA.PKL"),
        "two of its records",
    ),
    # safetensors
    smoke(
        "a safetensors header of 2**62 bytes",
        safetensors(b"{}", length=2**62),
        "its header of 4,611,686,018,427,387,904 bytes",
    ),
    smoke(
        "a safetensors header of 90 MB", safetensors(b"", length=90_000_000), "its header of 90,000,000 bytes is longer"
    ),
    smoke("a safetensors header that is not JSON", safetensors(b"nonsense"), DAMAGED),
    smoke("a safetensors header nested 100,000 deep", safetensors(NESTED), DAMAGED),
    smoke("a safetensors file of another dtype", safetensors(entry(dtype="F3")), DAMAGED),
    smoke("a safetensors shape whose product overflows", safetensors(entry(shape=[2**40, 2**40])), DAMAGED),
    smoke("safetensors offsets beyond the file", safetensors(entry(data_offsets=[0, 2**50])), DAMAGED),
    smoke("safetensors offsets that run backwards", safetensors(entry(data_offsets=[8, 0])), DAMAGED),
    smoke(
        "safetensors tensors that overlap",
        safetensors(entry()[:-1] + b"," + entry()[1:].replace(b'"x"', b'"y"')),
        DAMAGED,
    ),
    smoke(
        "a tensor twice in a safetensors header",
        safetensors(entry()[:-1] + b"," + entry()[1:]),
        "the key 'x' is written twice",
    ),
    smoke("safetensors metadata that is a number", safetensors(b'{"__metadata__": 3}'), DAMAGED),
    # heads
    Case("a head that is a pipe", head(os.mkfifo, "head.pth"), "head.pth is a pipe"),
    Case("a head that is a device", given(model="tiny", head="/dev/zero"), "is not a weights file"),
    Case("a head that is a folder", head(Path.mkdir, "head.pth"), "is not a file on this machine"),
    Case(
        "a head that runs a command",
        head(archive(state_dict(called("posix.system", text("true")))), "head.pth"),
        "refused: it names posix",
    ),
    Case(
        "a head of a billion classes of no features",
        head(lambda path: path.write_bytes(struct.pack("<Q", len(NO_FEATURES)) + NO_FEATURES)),
        "a head has 1 to 100,000 classes",
    ),
    Case(
        "a head whose class names are nested 50,000 deep",
        head(linear(classes="[" * 50_000)),
        "not a JSON list of strings",
    ),
    Case(
        "a head with 200,000 class names",
        head(linear(classes=json.dumps(["a"] * 200_000))),
        "names for more than 100,000 classes",
    ),
    Case(
        "a head with line breaks in a class name", head(linear(classes=json.dumps(["a\nb"] * 10))), "cannot be printed"
    ),
    smoke(
        "a link to nothing where a head is looked for",
        with_file("classification_head.safetensors", link_to("nothing")),
        "is not a file|link to a file that is not there",
    ),
    # weights that are whole files and wrong numbers: found once they are read
    smoke(
        "a tensor with a NaN",
        damaged("encoder.layers.0.ls1", lambda found: found[3:4].fill_(torch.nan)),
        "encoder.layers.0.ls1 holds 1 values that are not finite",
        ends="incomplete",
    ),
    smoke(
        "a tensor of zeros",
        damaged("encoder.layers.0.ls1", torch.Tensor.zero_),
        "encoder.layers.0.ls1 is all zeros",
        ends="incomplete",
    ),
    smoke(
        "a tensor of another shape",
        whole_tensor("encoder.layers.0.ls1", torch.ones(5)),
        r"has shape \(5,\) where config.json implies \(128,\)",
        ends="incomplete",
    ),
    smoke("a tensor too many", whole_tensor("extra", torch.ones(5)), "extra is unexpected", ends="incomplete"),
    smoke(
        "weights of whole numbers",
        whole_tensor("encoder.layers.0.ls1", torch.ones(128, dtype=torch.int8)),
        "only floating-point weights can be loaded",
        ends="incomplete",
    ),
]
