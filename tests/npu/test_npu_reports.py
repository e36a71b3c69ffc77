"""Whole runs of the `ivit` command on the rig: reports of the three notebooks, and failures told before anything starts."""

import json

import pytest

SHORT = ("-pbatch_size=2", "-pwarmup=0")


def record(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_all_three_notebooks_pass_on_the_card(ivit, tmp_path, dtype):
    words = ["-pdevice=npu", f"-pdtype={dtype}", "-pbatch_size=4", "-pbatch_sizes=[1,2]", "-pwarmup=1", "-pseconds=0.5", "-plimit=32"]
    done = ivit("run", *words, f"--out={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("smoke", "benchmark", "accuracy"):
        found = record(tmp_path, name)
        assert (found["status"], found["environment"]["device"], found["model"]["dtype"]) == ("passed", "Ascend910B4", dtype)
        assert found["model"]["load_device_peak_bytes"] >= found["model"]["bytes"]
        assert "no figure here is a speed" in " ".join(found["caveats"])
        assert "Ascend910B4" in (tmp_path / f"{name}.html").read_text()
    assert all(row["peak_memory_bytes"] > 2**20 for row in record(tmp_path, "benchmark")["rows"])
    assert record(tmp_path, "benchmark")["rows"][0]["share_of_vendor_peak"] is None or dtype == "bfloat16"


def test_random_weights_are_made_on_the_card(ivit, tmp_path):
    done = ivit("run", "smoke", "-pdevice=npu", "-pmodel=random:tiny-224", *SHORT, f"--out={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "weights are random" in done.stdout


def test_a_fall_back_and_a_refused_kernel_fail_the_smoke_report_by_name_and_the_rest_goes_on(ivit, tmp_path):
    knobs = {"NPU_RIG_FALLBACK": "aten::cat", "NPU_RIG_REFUSE": "npu::npu_gelu"}
    done = ivit("run", "smoke", "-pdevice=npu", *SHORT, f"--out={tmp_path}", **knobs)
    assert done.returncode == 1
    assert "Failed: fused gelu, every operator runs on the device." in done.stdout
    found = record(tmp_path, "smoke")
    details = {check["name"]: check["detail"] for check in found["checks"] if check["status"] == "failed"}
    assert details["every operator runs on the device"] == "aten::cat fell back to the CPU"
    assert "npu::npu_gelu" in details["fused gelu"]
    assert found["model"]["kernels"] == "fused, but plain gelu"


def test_a_forward_pass_that_fails_is_diagnosed_and_the_run_exits_with_1(ivit, tmp_path):
    done = ivit("run", "smoke", "-pdevice=npu", "-pdtype=bfloat16", *SHORT, f"--out={tmp_path}", NPU_RIG_REFUSE="aten::linear@bfloat16")
    assert done.returncode == 1
    assert "run with dtype='float32'" in done.stdout
    assert "Traceback (most" not in (tmp_path / "smoke.html").read_text()


@pytest.mark.parametrize(
    ("words", "knobs", "sentence"),
    [
        (["-pdevice=npu"], {"LD_LIBRARY_PATH": ""}, "torch-npu is installed but CANN could not be loaded"),
        (["-pdevice=npu"], {"NPU_RIG_CARDS": "0"}, "no NPU answers"),
        (["-pdevice=npu:7"], {"NPU_RIG_CARDS": "2"}, "device='npu:7' does not exist: this machine has 2, numbered 0 to 1"),
        (["-pdevice=npu", "-pmodel=random:6b-224"], {"NPU_RIG_MEMORY": str(8 * 2**30)}, "needs 11.0 GiB for its weights in bfloat16"),
        (["-pdevice=npu", "-pdtype=bfloat16"], {"NPU_RIG_NAME": "Ascend310P3"}, "does not compute bfloat16"),
    ],
    ids=["no CANN", "no card", "no such card", "too little memory", "no bfloat16"],
)
def test_what_the_machine_cannot_do_is_one_sentence(ivit, words, knobs, sentence):
    done = ivit("check", *words, **knobs)
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_cannot_be_is_refused_before_anything_starts(ivit, tmp_path):
    done = ivit("run", "-pdevice=npu:7", f"--out={tmp_path / 'run'}", NPU_RIG_CARDS="2")
    assert done.returncode == 2
    assert done.stderr == "ivit: device='npu:7' does not exist: this machine has 2, numbered 0 to 1.\n"
    assert not (tmp_path / "run").exists()


def test_the_second_card_is_used_when_it_is_asked_for(ivit):
    done = ivit("check", "-pdevice=npu:1", NPU_RIG_CARDS="2")
    assert done.stdout.splitlines()[-1] == "npu:1 (Ascend910B4), bfloat16"
