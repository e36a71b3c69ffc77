import importlib.util

import pytest

from ivit_helpers import device, environment
from ivit_helpers.errors import InputError


@pytest.mark.skipif(importlib.util.find_spec("torch_npu") is not None, reason="torch-npu is installed here")
def test_an_npu_without_torch_npu_is_told_with_the_next_step():
    with pytest.raises(InputError, match="torch-npu is not installed: pip install"):
        device.select("npu")


def test_peaks_are_looked_up_by_the_longest_name_and_unknown_devices_have_none():
    def peaks(name):
        return device.Device(device.torch.device("cuda"), name).peak_tflops()

    assert peaks("Ascend910B4") == {"cube": 245.76, "marketed": 280.0}
    assert peaks("NVIDIA H100 80GB HBM3") == {"data sheet": 989.4}
    assert peaks("Some Other Card") == {}


def test_the_cpu_is_described(cpu):
    described = environment.describe(cpu)
    assert described["device"] == cpu.name
    assert described["torch"].startswith("2.")
    assert "cann" not in described or described["cann"]


def test_cann_is_read_from_its_install_info(tmp_path, monkeypatch):
    (tmp_path / "aarch64-linux").mkdir()
    (tmp_path / "aarch64-linux" / "ascend_toolkit_install.info").write_text("package_name=Ascend-cann-toolkit\nversion=8.5.1\n")
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    assert environment.cann_version() == "8.5.1"


def test_blocking_launches_are_flagged(cpu, monkeypatch):
    model = {"shards": 2, "name": "InternViT-6B-224px"}
    assert not any("blocking" in sentence for sentence in environment.caveats(cpu, model))
    monkeypatch.setenv("ASCEND_LAUNCH_BLOCKING", "1")
    assert any("blocking" in sentence for sentence in environment.caveats(cpu, model))
