"""The `devices` parameter: what it means, what it contradicts, and what a machine lacks."""

import pytest

from ivit_helpers.device import cpu, cuda, npu, selection
from ivit_helpers.device.several import Several, agreed, named_devices, read_devices
from ivit_helpers.errors import InputError
from ivit_helpers.record.parameters import AccuracyParameters, validate


@pytest.mark.parametrize(
    ("text", "kind", "indices"),
    [("8", "", range(8)), ("1", "", [0]), ("npu:0-7", "npu", range(8)), ("cuda:0,1", "cuda", [0, 1]), ("npu:0-3,6", "npu", [0, 1, 2, 3, 6]),
     ("cuda:5", "cuda", [5]), ("cpu:2", "cpu", [0, 1]), ("npu:6,0-1", "npu", [6, 0, 1])],
)  # fmt: skip
def test_a_count_a_range_and_a_list_are_understood(text, kind, indices):
    assert read_devices(text) == Several(kind, tuple(indices))


@pytest.mark.parametrize(
    "text",
    ["0", "-1", "x", "npu", "npu:", ":2", "npu:a", "npu:3-1", "npu:0,0", "npu:0-2,1", "gpu:0", "cpu:0", "cpu:0-1", "2,3", "1-2", "8.0",
     "npu:0,", "npu:0--1", " 2", "２", "2000", "cpu:99999", "npu:0-99999", "auto:2", "npu:0:1"],
)  # fmt: skip
def test_anything_else_is_one_sentence_that_says_what_is_allowed(text):
    with pytest.raises(InputError, match=r"accuracy cannot use devices=.* Allowed: several cards at once"):
        validate(AccuracyParameters, {"devices": text})


def test_a_count_may_come_as_a_number_from_papermill():
    assert validate(AccuracyParameters, {"devices": 8}).devices == "8"


@pytest.mark.parametrize(
    ("devices", "device"), [("npu:0-7", "npu:1"), ("8", "npu:1"), ("cuda:0", "npu"), ("8", "cpu"), ("cpu:2", "cuda")]
)
def test_two_parameters_that_contradict_each_other_are_one_sentence(devices, device):
    with pytest.raises(
        InputError, match=f"devices='{devices}' and device='{device}' both choose where to run: leave device out"
    ):
        agreed(devices, device)


@pytest.mark.parametrize(
    ("devices", "device", "kind"), [("2", "npu", "npu"), ("npu:0-1", "npu", "npu"), ("2", "auto", "")]
)
def test_two_parameters_that_agree_are_taken_together(devices, device, kind):
    assert agreed(devices, device) == Several(kind, (0, 1))


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many cards of each kind."""

    def has(**cards: int) -> None:
        for kind in (npu.NPU, cuda.CUDA):
            count = cards.get(kind.kind, 0)
            monkeypatch.setattr(
                kind, "why_absent", classmethod(lambda cls, count=count: "" if count else f"no {cls.kind} answers.")
            )
            monkeypatch.setattr(kind, "count", classmethod(lambda cls, count=count: count))
            monkeypatch.setattr(kind, "is_installed", classmethod(lambda cls: True))

    return has


def test_the_cards_of_a_machine_are_named_one_for_each_process(machine):
    machine(npu=8)
    assert named_devices("8") == tuple(f"npu:{index}" for index in range(8))
    assert named_devices("npu:2,5") == ("npu:2", "npu:5")
    assert named_devices("cpu:3") == ("cpu",) * 3


def test_a_count_takes_the_first_kind_that_there_is(machine):
    machine(cuda=2)
    assert named_devices("2") == ("cuda:0", "cuda:1")


def test_more_cards_than_there_are_are_named(machine):
    machine(npu=4)
    with pytest.raises(
        InputError, match="asks for 8 cards, and npu:4, npu:5, npu:6, npu:7 are not there: this machine has 4"
    ):
        named_devices("npu:0-7")
    with pytest.raises(InputError, match=r"asks for 2 cards, and npu:4 is not there"):
        named_devices("npu:0,4")


def test_a_machine_without_cards_names_the_processes_on_the_cpu(machine):
    machine()
    with pytest.raises(
        InputError, match=r"devices='8' needs cards, .*no npu answers.*: devices='cpu:8' starts as many"
    ):
        named_devices("8")
    with pytest.raises(InputError, match=r"devices='cuda:0' cannot be used: no cuda answers"):
        named_devices("cuda:0")


def test_the_first_of_several_is_selected():
    assert isinstance(selection.select("auto", "cpu:2"), cpu.CPU)
    assert not selection.may_start_a_driver("auto", "cpu:2")
    assert selection.may_start_a_driver("auto", "npu:0,1")
