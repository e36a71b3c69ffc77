import argparse
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict

import pytest
import torch
from ivit_helpers.weights.pickles import read_pickle, read_state_dict

from ivit_helpers.errors import InputError
from ivit_helpers.weights.files import check_file


def values(path, tensor):
    """What lies in the file where a tensor's data are said to lie."""
    offset = tensor.untyped_storage()._checkpoint_offset
    return torch.frombuffer(bytearray(path.read_bytes()[offset : offset + tensor.nbytes]), dtype=tensor.dtype)


def test_tensors_come_back_exactly_and_a_real_configuration_object_is_an_inert_dict(tmp_path, configuration):
    path, tensor = tmp_path / "head.pth", torch.randn(3, 4)
    torch.save(
        {"model": OrderedDict(weight=tensor), "max_accuracy": 88.2, "epoch": 7, "config": configuration},
        path,
        pickle_protocol=2,
    )
    content = read_pickle(path)
    assert content["model"]["weight"].shape == (3, 4)
    assert torch.equal(values(path, content["model"]["weight"]), tensor.flatten())
    assert content["epoch"] == 7
    assert type(content["config"]) is OrderedDict
    assert type(content["config"]["MODEL"]) is OrderedDict
    assert content["config"] == configuration


def test_a_configuration_object_is_read_without_importing_yacs(tmp_path, configuration):
    torch.save({"config": configuration, "tags": {"a", "b"}, "frozen": frozenset("a")}, tmp_path / "head.pth")
    program = f"""
import sys
from pathlib import Path
from ivit_helpers.weights.files import check_file
from ivit_helpers.weights.pickles import read_pickle, read_state_dict
sys.modules["yacs"] = None  # as where it is not installed
print(sorted(read_pickle(Path({str(tmp_path / "head.pth")!r}))["tags"]))
"""
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        == "['a', 'b']\n"
    )


def test_parameters_and_16_bit_and_whole_numbers_come_back(tmp_path):
    kept = {"a": torch.nn.Parameter(torch.randn(2)), "b": torch.randn(5).bfloat16(), "c": torch.tensor(3)}
    torch.save(kept, tmp_path / "x.pth")
    content = read_pickle(tmp_path / "x.pth")
    for name, tensor in kept.items():
        assert torch.equal(values(tmp_path / "x.pth", content[name]), tensor.detach().flatten()), name


def no_advice(error):
    """torch's own errors say how to read the file unrestricted."""
    return not any(
        word in str(error).lower() for word in ("weights_only", "safe_globals", "allowlist", "trusted source")
    )


class Calls:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, r"(posix|os|nt)\.system"),
        (eval, "eval"),
        (getattr, "getattr"),
        (torch.load, r"torch(\.serialization)?\.load"),
        (torch.hub.load, r"torch\.hub\.load"),
    ],
)
def test_a_pickle_that_calls_anything_else_is_refused_by_name_and_runs_nothing(tmp_path, function, name):
    witness = tmp_path / "ran"
    torch.save({"x": Calls(function, f"touch {witness}")}, tmp_path / "x.pth")
    with pytest.raises(
        InputError, match=f"x.pth is refused: it names {name}, which is neither a tensor nor"
    ) as refused:
        read_pickle(tmp_path / "x.pth")
    assert not witness.exists()
    assert no_advice(refused.value)


def rewritten(path, records):
    """The file again, some of its zip records replaced."""
    with zipfile.ZipFile(path) as archive:
        kept = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (kept | {f"{path.stem}/{name}": content for name, content in records.items()}).items():
            archive.writestr(name, content)


def test_a_pickle_that_changes_a_function_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({}, path)
    # Name the function, then set its state to (None, {"__defaults__": (1,)}).
    rewritten(
        path,
        {"data.pkl": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__K\x01\x85s\x86b."},
    )
    with pytest.raises(
        InputError, match="x.pth is refused: it changes or calls a function, which is neither"
    ) as refused:
        read_pickle(path)
    assert no_advice(refused.value)


@pytest.mark.parametrize("protocol", [4, 5])
def test_another_pickle_protocol_is_told_without_torchs_advice(tmp_path, protocol):
    torch.save({"x": torch.zeros(2)}, tmp_path / "x.pth", pickle_protocol=protocol)
    with pytest.raises(
        InputError, match="x.pth is refused: its pickle protocol is not 2, the one that torch.save writes"
    ) as refused:
        read_pickle(tmp_path / "x.pth")
    assert no_advice(refused.value)


def test_a_pickle_of_before_torch_1_6_is_told_with_what_to_do(tmp_path):
    torch.save({"x": torch.zeros(2)}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(
        InputError,
        match="x.pth cannot be read as weights .*: load it where you trust it, and save its state dict again",
    ):
        read_pickle(tmp_path / "x.pth")


def test_an_object_of_another_library_is_refused_by_name(tmp_path):
    torch.save({"x": torch.zeros(2), "args": argparse.Namespace(lr=1)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="it names argparse.Namespace, which is neither") as refused:
        read_pickle(tmp_path / "x.pth")
    assert no_advice(refused.value)


def test_a_torchscript_program_is_refused(tmp_path):
    path = tmp_path / "program.pth"
    torch.save({"x": torch.zeros(1)}, path)
    rewritten(path, {"constants.pkl": b""})  # the record by which torch.load knows a program
    with pytest.raises(InputError, match="program.pth is refused: it is a TorchScript program"):
        read_pickle(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x02}.", b"<html>", b"PK\x03\x04"])
def test_a_file_that_torch_did_not_write_is_told(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"x.pth cannot be read as weights \("):
        read_pickle(tmp_path / "x.pth")


@pytest.mark.parametrize("reader", [read_pickle, check_file])
def test_a_pickle_of_the_older_format_with_an_archive_behind_it_is_refused_and_writes_nothing(tmp_path, reader):
    """torch.load goes by the beginning, a zip archive is known by its end; the older reader writes patches of a class's source."""
    path, witness = tmp_path / "head.pth", tmp_path / "written"

    def text(content):
        return b"X" + struct.pack("<I", len(content)) + content.encode()

    named = (
        b"ctorch._utils\n_rebuild_tensor_v2\nN}("
        + text("dump_patches")
        + b"\x88"
        + text("__name__")
        + text(str(witness))
        + b"u\x86b"
    )
    container = b"\x80\x02(" + text("module") + named + text("src") + text("any line") + b"tQ."
    sizes = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    older = b"".join(pickle.dumps(part, 2) for part in (torch.serialization.MAGIC_NUMBER, 1001, sizes))
    path.write_bytes(older + container + pickle.dumps([], 2))
    torch.save({"weight": torch.zeros(2)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as source, zipfile.ZipFile(path, "a") as target:
        for item in source.infolist():
            target.writestr(item.filename, source.read(item))
    assert zipfile.is_zipfile(path)
    with pytest.raises(
        InputError,
        match="head.pth cannot be read as weights .torch.save, since torch 1.6, writes archives that begin otherwise",
    ):
        reader(path)
    assert not list(tmp_path.glob("written*"))


def test_what_checkpoints_hold_beside_tensors_is_read(tmp_path):
    content = {
        "state_dict": OrderedDict(a=torch.zeros(2, 3), empty=torch.zeros(0, 3), turned=torch.zeros(2, 3).T),
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}},
            "param_groups": [{"lr": 1e-3, "params": [0]}],
        },
        "size": torch.Size([2, 3]),
        "device": torch.device("cpu"),
        "dtype": torch.bfloat16,
        "rng": b"bytes \xff",
        "large": 2**70,
    }
    torch.save(content, tmp_path / "x.pth")
    read = read_pickle(tmp_path / "x.pth")
    assert {name: read[name] for name in list(content)[2:]} == {name: content[name] for name in list(content)[2:]}
    assert read["optimizer"]["state"][0]["exp_avg"].shape == (2,)
    assert {name: tuple(tensor.shape) for name, tensor in read_state_dict(tmp_path / "x.pth").items()} == {
        "a": (2, 3),
        "empty": (0, 3),
        "turned": (3, 2),
    }


def test_a_storage_without_a_class_of_its_own_is_read(tmp_path):
    torch.save({"x": torch.zeros(3, dtype=torch.float8_e4m3fn)}, tmp_path / "x.pth")
    assert read_pickle(tmp_path / "x.pth")["x"].dtype == torch.float8_e4m3fn


def test_names_that_are_numbers_are_no_state_dict(tmp_path):
    torch.save({1: torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="x.pth holds no state dict"):
        read_state_dict(tmp_path / "x.pth")


def test_a_second_way_to_name_one_storage_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(2), "b": torch.zeros(4, dtype=torch.bfloat16)}, path)
    with zipfile.ZipFile(path) as archive:
        content = archive.read("x/data.pkl")
    assert content.count(b"X\x01\x00\x00\x001") == 1
    rewritten(path, {"data.pkl": content.replace(b"X\x01\x00\x00\x001", b"X\x01\x00\x00\x000")})
    with pytest.raises(InputError, match="x.pth is refused: it names one storage in two ways"):
        read_pickle(path)


def test_an_archive_of_one_record_in_two_places_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({}, path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("x/data.pkl", b"")
    with pytest.raises(InputError, match="two of its records have one name"):
        check_file(path.rename(tmp_path / "x.bin"))


def test_bytes_before_or_behind_an_archive_are_refused(tmp_path):
    """Readers of archives differ in where they then find the records."""
    torch.save({}, tmp_path / "sound.pth")
    whole = (tmp_path / "sound.pth").read_bytes()
    rewritten(tmp_path / "sound.pth", {})
    short = (tmp_path / "sound.pth").read_bytes()  # as Python writes it, without the directory's end for more than 4 GB
    for content in (whole[:4] + whole, whole + b"x", short[:4] + short, short + b"x"):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(
            InputError, match="x.pth cannot be read as weights .its (directory is damaged|end is missing)"
        ):
            read_pickle(tmp_path / "x.pth")
