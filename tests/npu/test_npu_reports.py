"""Reports of the notebooks on the rig, and what the `ivit` command says before anything starts."""

import pytest

from ivit_helpers.errors import InputError
from ivit_helpers.record import record
from ivit_helpers.record.parameters import MODEL_NOTEBOOKS
from tests.notebook import executed

SHORT = {
    "smoke": {"batch_size": 2, "warmup": 0},
    "benchmark": {"batch_sizes": [1, 2], "warmup": 0, "repeats": 3},
    "accuracy": {"batch_size": 4, "limit": 16},
    "explore": {"limit": 8},
}


@pytest.fixture
def given(npu, tmp_path, monkeypatch):
    """Parameters of a notebook in this process, where the matrix product that the benchmark measures is a small one."""
    monkeypatch.setattr(type(npu), "matmul_side", 256)
    return {"device": "npu", "out": str(tmp_path / "out")}


def measured_on_the_card(found, dtype):
    """Whether a record passed and says that it is the rig's. A benchmark there may be not judged: its real times need not settle."""
    assert found.status == "passed" or (found.notebook == "benchmark" and found.status == "not_judged"), found.checks
    assert (found.environment["device"], found.model.dtype) == ("Ascend910B4", dtype)
    assert found.model.load_device_peak_bytes >= found.model.bytes
    assert "no figure here is a speed" in " ".join(found.caveats)
    if found.notebook == "benchmark":
        assert all(row.peak_memory_bytes > 2**20 for row in found.rows)
        assert found.rows[0].share_of_vendor_peak is None or dtype == "bfloat16"
    return True


@pytest.mark.slow
def test_one_command_runs_the_notebooks_on_the_card_in_bfloat16(ivit, tmp_path):
    words = ["-pdtype=bfloat16", "-pbatch_size=2", "-pbatch_sizes=[1,2]", "-pwarmup=0", "-prepeats=3", "-plimit=16"]
    done = ivit("run", "-pdevice=npu", *words, f"--out={tmp_path}", NPU_RIG_ZEROS_FROM="4096")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in MODEL_NOTEBOOKS:
        assert measured_on_the_card(record.read(tmp_path / f"{name}.json"), "bfloat16")
        assert "Ascend910B4" in (tmp_path / f"{name}.html").read_text()


@pytest.mark.parametrize("name", MODEL_NOTEBOOKS)
def test_a_notebook_passes_on_the_card_in_float32(name, given):
    assert measured_on_the_card(executed(name, **given, dtype="float32", **SHORT[name]).run.record, "float32")


def test_the_card_and_another_run_are_two_sides(given, tmp_path):
    saved = executed("explore", **given, dtype="float32", save=True, **SHORT["explore"]).run
    other = str(saved.folder / "explore_states.safetensors")
    record = executed(
        "explore", **given | {"device": "cpu", "out": str(tmp_path / "cpu")}, dtype="float32", other=other, limit=4
    ).run.record
    assert record.status == "passed", record.checks
    assert record.other == "Ascend910B4 in float32 (tiny-internvit), saved by another run"
    assert record.rows[-1].difference < 1e-5


def test_random_weights_are_made_on_the_card(given):
    found = executed("smoke", **given, model="random:tiny-224", **SHORT["smoke"]).run.record
    assert found.status == "passed", found.checks
    assert "weights are random" in found.verdict


@pytest.mark.slow
def test_a_fall_back_and_a_refused_kernel_fail_the_smoke_report_by_name_and_the_rest_goes_on(ivit, tmp_path):
    knobs = {"NPU_RIG_FALLBACK": "aten::cat", "NPU_RIG_REFUSE": "npu::npu_gelu"}
    done = ivit("run", "smoke", "-pdevice=npu", "-pbatch_size=2", "-pwarmup=0", f"--out={tmp_path}", **knobs)
    assert done.returncode == 1
    assert "Failed: fused gelu: refused by the device: " in done.stdout
    assert "; also failed: every operator runs on the device." in done.stdout
    found = record.read(tmp_path / "smoke.json")
    details = {check.name: check.detail for check in found.checks if check.status == "failed"}
    assert details["every operator runs on the device"] == "aten::cat fell back to the CPU"
    assert "npu::npu_gelu" in details["fused gelu"]
    assert found.model.kernels == "fused, but plain gelu"


def test_a_forward_pass_that_fails_is_diagnosed_and_ends_the_smoke_notebook(given, monkeypatch):
    monkeypatch.setenv("NPU_RIG_REFUSE", "aten::linear@bfloat16")
    with pytest.raises(InputError, match="run with dtype='float32'"):
        executed("smoke", **given, dtype="bfloat16", **SHORT["smoke"])


@pytest.mark.parametrize(
    ("words", "knobs", "sentence"),
    [
        (["-pdevice=npu"], {"NPU_RIG_CARDS": "0"}, "no NPU answers"),
        (
            ["-pdevice=npu:7"],
            {"NPU_RIG_CARDS": "2"},
            "device='npu:7' does not exist: this machine has 2, numbered 0 to 1",
        ),
        (
            ["-pdevice=npu", "-pmodel=random:6b-224"],
            {"NPU_RIG_MEMORY": str(8 * 2**30)},
            "needs 11.0 GiB for its weights in bfloat16",
        ),
        (["-pdevice=npu", "-pdtype=bfloat16"], {"NPU_RIG_NAME": "Ascend310P3"}, "does not compute bfloat16"),
    ],
    ids=["no card", "no such card", "too little memory", "no bfloat16"],
)
def test_what_the_machine_cannot_do_is_one_sentence(check, words, knobs, sentence):
    code, printed = check(*words, **knobs)
    assert code == 2, printed
    assert sentence in printed


def test_a_machine_without_cann_is_one_sentence(ivit):
    done = ivit("check", "-pdevice=npu", LD_LIBRARY_PATH="")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "torch-npu is installed but CANN could not be loaded" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_cannot_be_is_refused_before_anything_starts(ivit, tmp_path):
    done = ivit("run", "smoke", "-pdevice=npu:7", f"--out={tmp_path / 'run'}", NPU_RIG_CARDS="2")
    assert done.returncode == 2
    assert done.stderr == "ivit: device='npu:7' does not exist: this machine has 2, numbered 0 to 1.\n"
    assert not (tmp_path / "run").exists()


def test_the_second_card_is_used_when_it_is_asked_for(check):
    code, printed = check("-pdevice=npu:1", NPU_RIG_CARDS="2")
    assert (code, printed.splitlines()[-1]) == (0, "npu:1 (Ascend910B4), bfloat16")
