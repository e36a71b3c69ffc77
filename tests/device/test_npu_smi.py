"""A small shell script stands in for npu-smi; its answers are laid out as the tool's versions lay them out."""

import pytest

from ivit_helpers.device import device, npu, npu_smi

MAPPING = """\
        NPU ID                         Chip ID                        Chip Logic ID                  Chip Name
        1                              0                              1                              Ascend 910B4
        0                              0                              0                              Ascend 910B4
        0                              1                              -                              Mcu
        1                              1                              -                              Mcu
"""
ANSWERS = {
    "memory": "        NPU ID                         : 1\n        HBM Capacity(MB)               : 32768\n",
    "power": "        Power Dissipation(W)           : 88.4\n",
    "temp": "        NPU Temperature (C)            : 41\n",
    "usages": "        HBM Usage Rate(%)              : 87\n        Aicore Usage Rate(%)           : 99\n",
    "board": "        Software Version               : 24.1.0\n        Firmware Version               : 7.5.0.1.129\n",
}


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Put an npu-smi that answers from these texts on the PATH, alone with the shell's own commands."""

    def install(mapping=MAPPING, answers=ANSWERS):
        (tmp_path / "mapping").write_text(mapping)
        for form, text in answers.items():
            (tmp_path / form).write_text(text)
        script = tmp_path / "npu-smi"
        script.write_text(
            f'#!/bin/sh\n[ "$2" = -m ] && exec cat {tmp_path}/mapping\n'
            f'[ "$5 $7" = "1 0" ] || exit 1\n[ -f {tmp_path}/"$3" ] && exec cat {tmp_path}/"$3"\nexit 8\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return install


def test_the_second_card_is_asked_by_its_own_ids_and_answers_in_units(tool):
    tool()
    assert npu_smi.of_card(1) == {
        "npu_smi_memory_mb": "32768",
        "npu_power_w": "88.4",
        "npu_temperature_c": "41",
        "npu_utilisation_percent": "99",
        "npu_firmware": "7.5.0.1.129",
    }


def test_a_field_without_a_value_is_left_out(tool):
    tool(answers={**ANSWERS, "power": "        NPU Real-time Power(W)         : -\n"})
    assert "npu_power_w" not in npu_smi.of_card(1)


def test_without_the_card_or_without_the_tool_there_are_no_fields(tool, tmp_path, monkeypatch):
    tool()
    assert npu_smi.of_card(7) == {}
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert npu_smi.of_card(0) == {}


@pytest.mark.parametrize(
    ("torch_npu", "cann", "warned"),
    [
        ("2.9.0.post1", "8.5.1", False),
        ("2.9.0.post1+git4c901a4", "8.5.1", False),
        ("2.9.0.post1+git4c901a4", "9.0.0", True),
        ("2.13.0", "8.5.1", False),  # nobody has said what it was made for
        ("2.9.0", None, False),
    ],
)
def test_a_torch_npu_on_another_cann_is_warned_of(torch_npu, cann, warned):
    sentence = npu.version_mismatch(torch_npu, cann)
    assert bool(sentence) is warned
    assert not warned or "made for CANN 8.5, this machine has 9.0.0" in sentence


def test_the_state_of_a_device_says_how_much_memory_is_free(cpu):
    assert "GiB of" in cpu.state()["free memory"]
    assert isinstance(cpu, device.Device)
