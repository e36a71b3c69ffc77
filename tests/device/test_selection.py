import importlib.util

import pytest
import torch

from ivit_helpers.device import cuda, environment, npu, selection
from ivit_helpers.errors import InputError


@pytest.mark.skipif(importlib.util.find_spec("torch_npu") is not None, reason="torch-npu is installed here")
def test_an_npu_without_torch_npu_is_refused_with_the_next_step():
    with pytest.raises(InputError, match="torch-npu is not installed: pip install"):
        selection.select("npu")


def test_peaks_are_looked_up_by_the_longest_name_and_unknown_devices_have_none():
    somewhere = torch.device("cpu")
    assert npu.NPU(somewhere, "Ascend910B4").peak_tflops() == {"cube": 245.76, "marketed": 280.0}
    assert cuda.CUDA(somewhere, "NVIDIA H100 80GB HBM3").peak_tflops() == {"data sheet": 989.4}
    assert cuda.CUDA(somewhere, "Some Other Card").peak_tflops() == {}


def test_the_cpu_is_described(cpu):
    described = environment.describe(cpu)
    assert described["device"] == cpu.name
    assert described["torch"].startswith("2.")
    assert "cann" not in described or described["cann"]


def test_cann_is_read_from_its_install_info(tmp_path, monkeypatch):
    (tmp_path / "aarch64-linux").mkdir()
    (tmp_path / "aarch64-linux" / "ascend_toolkit_install.info").write_text(
        "package_name=Ascend-cann-toolkit\nversion=8.5.1\n"
    )
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    assert npu.cann_version() == "8.5.1"


def test_blocking_launches_are_flagged(monkeypatch):
    card = cuda.CUDA(torch.device("cuda"), "a card")
    assert not any("blocking" in sentence for sentence in card.caveats())
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    assert any("blocking" in sentence for sentence in card.caveats())
