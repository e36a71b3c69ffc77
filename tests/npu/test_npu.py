"""The NPU path of the helpers, in this process, on the rig. Every trap is turned on once and must be caught."""

import gc
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F

from ivit_helpers.accuracy import predictions, statistics
from ivit_helpers.benchmark import frontier
from ivit_helpers.device import device, environment
from ivit_helpers.device.selection import select
from ivit_helpers.images import folders, transform
from ivit_helpers.measure import fidelity, samples, timing
from ivit_helpers.model import kernel_check, kernels
from ivit_helpers.model.network import InternViTConfig
from ivit_helpers.smoke import diagnosis, operators
from ivit_helpers.weights import loading, sources
from tests.builders import FUSED, SMALL, randomised

BOTH = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])


@pytest.fixture
def loaded(npu, model_folder):
    def load(dtype=torch.bfloat16):
        return loading.load(sources.find(str(model_folder)), npu, dtype)

    return load


def pixels(loaded, count):
    return transform.synthetic_pixels(count, loaded.network.config.image_size).to(loaded.device.torch_device)


def leave_little_memory(card, monkeypatch, mebibytes=64):
    """Make the card one that has so many MiB free."""
    gc.collect()  # graphs of other tests hold memory of their own
    card.release_memory()
    in_use = card.total_memory() - card.available_memory()
    monkeypatch.setenv("NPU_RIG_MEMORY", str(in_use + mebibytes * 2**20))


def test_the_card_is_named_and_its_memory_counted(npu):
    assert (npu.name, npu.kind, str(npu.torch_device)) == ("Ascend910B4", "npu", "npu:0")
    assert npu.total_memory() == 32 * 2**30
    assert npu.peak_tflops() == {"cube": 245.76, "marketed": 280.0}
    npu.reset_peak_memory()
    kept = torch.empty(2**20, device=npu.torch_device)
    assert npu.peak_memory() >= kept.nbytes


def test_auto_prefers_the_npu(npu):
    assert select("auto").kind == "npu"


@BOTH
def test_the_network_on_the_card_agrees_with_the_reference_and_every_fused_kernel_is_used(loaded, dtype):
    model = loaded(dtype)
    assert [verdict.refused + verdict.instead_of for verdict in model.kernel_verdicts] == [""] * 5
    expected = fidelity.reference_states(model.network, pixels(model, 1), dtype)
    with model.device.inference():
        assert expected.agreement(model.network(pixels(model, 1))).passed


@BOTH
def test_card_and_cpu_give_every_image_the_same_answer(npu, dtype):
    digits = folders.digits().drawn(24, 0)
    models = (loading.load(sources.find("tiny"), where, dtype) for where in (npu, select("cpu")))
    here, there = (predictions.predict(model, digits, 16, workers=0) for model in models)
    assert list(here.table["class1"]) == list(there.table["class1"])
    assert statistics.score(here).scored == 24


@pytest.fixture
def tanh_gelu(npu):
    """torch-npu's default: the tanh form under the exact form's name."""
    torch.npu.use_compatible_impl(False)
    yield
    torch.npu.use_compatible_impl(True)


def test_the_cards_own_gelu_is_the_tanh_form_and_is_refused(npu, tanh_gelu, monkeypatch):
    x = torch.linspace(-4, 4, 101)
    assert (F.gelu(x.to("npu")).cpu() - F.gelu(x, approximate="tanh")).abs().max() < 1e-6
    assert (kernels.fused(npu).gelu(x.to("npu")).cpu() - F.gelu(x)).abs().max() < 1e-6
    monkeypatch.setattr(kernel_check, "fused", lambda _: FUSED)  # the trap: F.gelu taken for the exact form
    for dtype in (torch.bfloat16, torch.float32):
        chosen, verdicts = kernel_check.trusted_kernels(SMALL, npu, dtype)
        refused = {verdict.kernel: str(verdict) for verdict in verdicts if verdict.refused}
        assert "its numbers are wrong; relative error" in refused["gelu"]
        assert chosen.gelu is kernels.plain_gelu


def test_gelu_is_the_exact_form_for_transformers_too(npu):
    x = torch.linspace(-4, 4, 101)
    assert (F.gelu(x.to("npu")).cpu() - F.gelu(x)).abs().max() < 1e-6


def test_float32_convolutions_are_not_rounded_to_hf32(npu):
    network, seen = randomised(SMALL), transform.synthetic_pixels(1, SMALL.image_size)
    exact, on_card = network.embeddings(seen), network.embeddings.to("npu")
    assert kernels.relative_error(on_card(seen.to("npu")).cpu(), exact) < 1e-6
    torch.npu.conv.allow_hf32 = True
    try:
        assert kernels.relative_error(on_card(seen.to("npu")).cpu(), exact) > 1e-5, "the rig's trap does not snap"
    finally:
        torch.npu.conv.allow_hf32 = False


def test_loading_to_the_card_holds_no_second_copy_on_the_host(tmp_path):
    """In a process of its own. The rig's card is in the host's memory: loading adds the network, and little beside it."""
    config = InternViTConfig(1024, 8, 16, 4096, 28)
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    torch.save(randomised(config).bfloat16().state_dict(), tmp_path / "pytorch_model.bin")
    program = f"""
import torch
from ivit_helpers.device import cpu
from ivit_helpers.device.selection import select
from ivit_helpers.weights.sources import find
from ivit_helpers.weights.loading import load
npu = select("npu")
load(find("tiny"), npu, torch.bfloat16)  # what first calls allocate is not this load's
cpu.reset_host_peak()
before = cpu.host_peak()
model = load(find({str(tmp_path)!r}), npu, torch.bfloat16)
print(model.bytes / 2**20, (model.host_peak_bytes - before) / 2**20)
"""
    # Without a fixed threshold, glibc keeps freed blocks of 8 MiB or not, as its threads happen to be scheduled.
    freed_at_once = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=freed_at_once
    )
    size, grown = map(float, done.stdout.splitlines()[-1].split())
    assert size > 190
    assert size < grown < 2 * size + 128  # the mapped pages of the file count, too; a second copy would be a third size


def test_a_uniform_attention_is_refused_and_the_plain_one_used(loaded, monkeypatch):
    monkeypatch.setenv("NPU_RIG_UNIFORM", "aten::scaled_dot_product_attention,npu::npu_prompt_flash_attention")
    model = loaded()
    assert model.network.kernels.name == "fused, but plain attention"
    assert model.network.kernels.attention is kernels.plain_attention
    [verdict] = [verdict for verdict in model.kernel_verdicts if verdict.refused]
    assert verdict.error > 0.1


@pytest.mark.parametrize("knob", ["NPU_RIG_UNIFORM", "NPU_RIG_REFUSE"])
def test_where_the_inference_attention_is_refused_torchs_own_is_used(loaded, monkeypatch, knob):
    monkeypatch.setenv(knob, "npu::npu_prompt_flash_attention")
    model = loaded()
    assert (model.network.kernels.name, model.network.kernels.attention) == ("fused", device.torch_attention)
    assert "the first choice was refused" in str(model.kernel_verdicts[2])


SIXTEEN = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])


@SIXTEEN
def test_a_fused_mlp_whose_gelu_is_the_tanh_form_is_refused_by_name_and_three_launches_are_used(
    loaded, monkeypatch, dtype
):
    monkeypatch.setenv("NPU_RIG_TANH", "npu::npu_ffn")
    model = loaded(dtype)
    assert (model.network.kernels.name, model.network.kernels.mlp) == ("fused", device.three_launches)
    [verdict] = [verdict for verdict in model.kernel_verdicts if verdict.instead_of]
    assert verdict.kernel == "mlp"
    assert re.fullmatch(r"its numbers are wrong; relative error [56]\.\de-02, limit \d\.\de-0[34]", verdict.instead_of)
    assert model.network.encoder.layers[0].mlp.fc1.weight.is_contiguous()


@SIXTEEN
def test_the_fused_mlp_gives_the_plain_ones_answers_with_the_published_tensors(loaded, dtype):
    model = loaded(dtype)
    plain, published = model.network.sharing_weights(kernels.PLAIN), randomised(SMALL).state_dict()
    assert set(plain.state_dict()) == set(published)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor.cpu(), published[name].bfloat16().to(dtype)), name
    with model.device.inference():
        found, expected = model.network(pixels(model, 2)).cpu(), plain(pixels(model, 2)).cpu()
    assert kernels.relative_error(found.float(), expected.float()) < 4 * torch.finfo(dtype).eps
    weight = model.network.encoder.layers[0].mlp.fc1.weight
    assert (weight.shape, weight.t().is_contiguous()) == ((SMALL.intermediate_size, SMALL.hidden_size), True)


def test_what_cann_does_not_take_is_refused_with_its_number(npu):
    x, weight1, weight2 = (
        torch.zeros(*shape, dtype=torch.bfloat16, device="npu") for shape in [(4, 8), (8, 32), (32, 8)]
    )
    biases = {"bias1": weight1[0], "bias2": weight2[0]}
    with pytest.raises(RuntimeError, match="161002"):
        torch.ops.npu.npu_ffn(x, weight1, weight2, "gelu", **biases)
    with pytest.raises(RuntimeError, match="161002"):
        torch.ops.npu.npu_ffn(
            x.float(), weight1.float(), weight2.float(), "gelu", **{name: bias.float() for name, bias in biases.items()}
        )


def test_a_refused_kernel_is_named_and_the_plain_one_used(loaded, monkeypatch):
    monkeypatch.setenv("NPU_RIG_REFUSE", "npu::npu_rms_norm")
    model = loaded()
    [verdict] = [verdict for verdict in model.kernel_verdicts if verdict.refused]
    assert verdict.kernel == "rms_norm"
    assert "refused by the device: NotImplementedError: Could not run 'npu::npu_rms_norm'" in str(verdict)
    with model.device.inference():
        assert model.network(pixels(model, 1)).isfinite().all()


def test_the_audit_counts_operators_and_where_they_ran(loaded):
    model = loaded()
    batch = pixels(model, 1)
    with model.device.inference():
        audit = operators.audited(lambda: model.network(batch), model.device)
    layers = SMALL.num_hidden_layers
    assert audit.calls["aten::linear", "npu"] == 2 * layers
    assert audit.calls["npu::npu_rms_norm", "npu"] == 4 * layers
    assert audit.calls["npu::npu_ffn", "npu"] == layers
    assert audit.calls["npu::npu_prompt_flash_attention", "npu"] == layers
    assert audit.launches == 10 * layers + 4, (
        "and the pixels in bfloat16, the patches, the class token and the positions"
    )
    assert not audit.fell_back
    assert not audit.refused


def test_the_audit_names_an_operator_that_fell_back_or_failed(loaded, monkeypatch):
    model = loaded()
    monkeypatch.setenv("NPU_RIG_FALLBACK", "aten::cat")
    monkeypatch.setenv("NPU_RIG_REFUSE", "aten::addcmul")
    with model.device.inference():
        audit = operators.audited(lambda: model.network(pixels(model, 1)), model.device)
    assert audit.fell_back == ["aten::cat"]
    assert list(audit.refused) == ["aten::addcmul"]


def test_running_out_of_memory_at_one_batch_size_is_a_row_of_the_sweep(loaded, monkeypatch):
    model = loaded()
    leave_little_memory(model.device, monkeypatch)
    rows = timing.sweep(
        {"fused": model.network},
        lambda size: pixels(model, size),
        [1, 2048, 2],
        model.device,
        warmup=1,
        repeats=3,
        seconds=5,
    )
    assert [bool(row.error) for row in rows] == [False, True, False]
    assert rows[1].error.startswith("out of memory: NPU out of memory")


def test_the_largest_batch_is_exactly_the_one_beyond_which_the_cards_memory_ends(loaded, monkeypatch):
    model = loaded()
    leave_little_memory(model.device, monkeypatch, mebibytes=24)
    found = frontier.frontier(model.network, lambda size: pixels(model, size), model.device)

    def fits(size):
        model.device.release_memory()
        with model.device.inference():
            try:
                model.network(pixels(model, size))
            except torch.OutOfMemoryError:
                return False
        return True

    assert found.exact
    assert found.largest > 8
    assert [fits(found.largest + more) for more in (-1, 0, 1, 2)] == [True, True, False, False]
    assert [one.fits for one in found.tried] == [one.batch_size <= found.largest for one in found.tried]
    failed = [one for one in found.tried if not one.fits]
    assert all(one.error.startswith("out of memory: NPU out of memory. Tried to allocate ") for one in failed)
    assert all(0 < one.asked_bytes < 2**30 for one in failed)
    shown = frontier.frontier_table(found).frame
    assert list(shown.loc[shown["fits"] == "no", "batch"]) == [str(one.batch_size) for one in failed]
    assert not set(shown.loc[shown["fits"] == "no", "asked for, MiB"]) & {"", "n/a", "0"}


def measured(model, virtual_clock, monkeypatch, calls):
    """A series of calls of a network each of whose linears keeps the device busy for 5 ms."""
    monkeypatch.setattr(timing.time, "perf_counter", virtual_clock)
    monkeypatch.setenv("NPU_RIG_MS", "aten::linear=5")
    [series] = timing.alternating(
        {"fused": model.network}, pixels(model, 1), model.device, warmup=2, repeats=calls, seconds=1e9
    )
    return series


def test_every_statistic_is_the_devices_time(loaded, virtual_clock, monkeypatch):
    row = measured(loaded(), virtual_clock, monkeypatch, calls=samples.minimum_samples(90)).row("bfloat16", 1)
    expected = 5.0 * 2 * SMALL.num_hidden_layers
    for statistic in ("mean", "p50", "p90"):
        assert getattr(row.latency_ms, statistic) == pytest.approx(expected, rel=0.02)
    assert row.first_call_s == pytest.approx(expected / 1e3, rel=0.02)
    assert row.images_per_s == pytest.approx(1e3 / expected, rel=0.02)


def test_without_the_synchronise_the_clock_would_show_launches(loaded, virtual_clock, monkeypatch):
    model = loaded()
    monkeypatch.setattr(type(model.device), "synchronize", lambda self: None)
    monkeypatch.setenv("NPU_RIG_HOST_MS", "0.5")  # else the clock stands still, and a window takes thousands of calls
    launches, device_s = 10 * SMALL.num_hidden_layers + 4, 5e-3 * 2 * SMALL.num_hidden_layers
    [seconds] = {
        round(call, 9) for window in measured(model, virtual_clock, monkeypatch, calls=3).windows_s for call in window
    }
    assert seconds == pytest.approx(launches * 0.5e-3)
    assert seconds < device_s


def test_the_ladder_finds_that_float32_runs(loaded, monkeypatch):
    model = loaded()
    monkeypatch.setenv("NPU_RIG_REFUSE", "aten::linear@bfloat16")
    attempts = diagnosis.ladder(model, 4)
    assert {attempt.name: attempt.worked for attempt in attempts} == {
        "the same again": False, "the card": None, "float32": True, "one image": False, "plain kernels": False,
    }  # fmt: skip
    assert "dtype='float32'" in diagnosis.advice(attempts)


def test_the_ladder_finds_that_plain_kernels_run(loaded, monkeypatch):
    model = loaded()
    monkeypatch.setenv("NPU_RIG_REFUSE", "npu::npu_rms_norm")
    attempts = diagnosis.ladder(model, 4)
    assert [attempt.name for attempt in attempts if attempt.worked] == ["plain kernels"]
    assert "implementations=['plain']" in diagnosis.advice(attempts)


def test_the_ladder_finds_that_one_image_runs(loaded, monkeypatch):
    model = loaded(torch.float32)
    leave_little_memory(model.device, monkeypatch)
    attempts = diagnosis.ladder(model, 4096)
    assert [attempt.name for attempt in attempts if attempt.worked] == ["one image"]
    assert "smaller batch_size" in diagnosis.advice(attempts)


def test_an_explicit_task_queue_setting_survives_the_import_of_torch_npu():
    program = (
        "import builtins, os; builtins.__IPYTHON__ = True\n"
        "from ivit_helpers.device.selection import select; select('npu'); print(os.environ['TASK_QUEUE_ENABLE'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "TASK_QUEUE_ENABLE": "2"}, capture_output=True, text=True
    )
    assert done.stdout.split()[-1] == "2", done.stderr


def test_torchrun_workers_take_a_card_each(tmp_path):
    program = tmp_path / "worker.py"
    program.write_text(
        "import os, torch.distributed as dist\n"
        "from ivit_helpers.device.selection import select\n"
        "card = select(f\"npu:{os.environ['LOCAL_RANK']}\")\n"
        "dist.init_process_group('gloo')\n"
        "names = [None] * dist.get_world_size()\n"
        "dist.all_gather_object(names, str(card))\n"
        "print(sorted(names)) if dist.get_rank() == 0 else None\n"
        "dist.destroy_process_group()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)],
        env={**os.environ, "NPU_RIG_CARDS": "2"}, capture_output=True, text=True,
    )  # fmt: skip
    assert "['npu:0 (Ascend910B4)', 'npu:1 (Ascend910B4)']" in done.stdout, done.stderr


def test_the_environment_names_torch_npu_and_the_task_queue(npu):
    described = environment.describe(npu)
    assert described["device"] == "Ascend910B4"
    assert described["torch-npu"].startswith("2.")
    assert any("task queue was off" in sentence for sentence in npu.caveats())
