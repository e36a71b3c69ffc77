"""Graph capture on the rig: torch_npu's own NPUGraph, and everything that it and CANN refuse, each with its number and what to do."""

import ctypes
import gc
import os
import subprocess
import sys

import pytest
import torch

from ivit_helpers.device.graphs import Graphed
from ivit_helpers.errors import ChecksFailed
from ivit_helpers.measure import timing
from ivit_helpers.measure.launches import audited
from ivit_helpers.record import record
from ivit_helpers.weights import loading, sources
from tests.notebook import executed
from tests.npu.test_npu import pixels

NOT_WAITING = {
    "107030": lambda network, batch: (network(batch), torch.npu.synchronize())[0],
    "107027": lambda network, batch: network(batch) * network(batch).sum().item(),
}


@pytest.fixture
def model(npu, model_folder):
    return loading.load(sources.find(str(model_folder)), npu, torch.bfloat16)


def refused(forward, model, size=1):
    """What a user reads where a forward pass cannot be captured."""
    try:
        with model.device.inference():
            forward(pixels(model, size))
    except RuntimeError as error:  # and dropped, as a sweep does: its traceback holds the graph
        return model.device.explain(error)
    return pytest.fail("nothing was refused")


def test_a_replay_is_two_launches_and_gives_the_networks_own_bits_for_every_image_and_batch_size(model):
    graph = Graphed(model.network, model.device)
    with model.device.inference():
        for size in (1, 3, 1, 2, 3):
            batch = torch.randn(size, 3, 56, 56).to(model.device.torch_device)
            assert torch.equal(graph(batch), model.network(batch))
        calls = audited(lambda: graph(batch), model.device).calls
    assert calls == {("aten::copy_", "npu"): 1, ("graph replay", "npu"): 1}
    assert {shape[0] for shape in graph.prepared_s} == {1, 2, 3}


def test_a_capture_computes_nothing_and_keeps_what_was_on_the_card(model):
    kept = torch.ones(4, device="npu")
    graph = torch.npu.NPUGraph()
    with torch.inference_mode(), torch.npu.graph(graph):
        kept.add_(1)
    assert kept.tolist() == [1] * 4
    graph.replay()
    assert kept.tolist() == [2] * 4


def test_a_graph_that_does_not_give_the_networks_bits_is_refused(model):
    calls = []
    graph = Graphed(lambda batch: (calls.append(batch), model.network(batch) + len(calls))[1], model.device)
    for size in (1, 2):
        assert (
            refused(graph, model, size)
            == "RuntimeError: the replayed graph gives other numbers than the network that was captured"
        )


@pytest.mark.parametrize("number", NOT_WAITING)
def test_waiting_for_the_card_during_a_capture_is_refused_and_the_next_capture_works(model, number):
    stream = torch.npu.current_stream()
    said = refused(Graphed(lambda batch: NOT_WAITING[number](model.network, batch), model.device), model)
    assert f"error code is {number}; " in said
    assert "run without graph capture" in said
    assert torch.npu.current_stream() == stream, "torch_npu leaves its own stream current"
    graph = Graphed(model.network, model.device)
    with model.device.inference():
        assert torch.equal(graph(pixels(model, 1)), model.network(pixels(model, 1)))


def test_an_object_whose_first_capture_failed_captures_the_next_size(model, monkeypatch):
    graph = Graphed(model.network, model.device)
    monkeypatch.setenv("NPU_RIG_ACLOP", "aten::linear")
    refused(graph, model)
    monkeypatch.delenv("NPU_RIG_ACLOP")
    with model.device.inference():
        assert torch.equal(graph(pixels(model, 2)), model.network(pixels(model, 2)))


def test_an_operator_without_aclnn_cannot_be_captured(model, monkeypatch):
    monkeypatch.setenv("NPU_RIG_ACLOP", "aten::linear")
    said = refused(Graphed(model.network, model.device), model)
    assert "Cannot run aclop operators during NPU graph capture. Current working aclop is MatMul" in said
    assert "only aclnn operators can be captured" in said


def test_running_out_of_streams_is_the_row_of_that_batch_size_and_the_sweep_goes_on(model, monkeypatch):
    gc.collect()  # graphs of other tests
    monkeypatch.setenv("NPU_RIG_GRAPHS", str(ctypes.CDLL("libascendcl.so").rig_graphs() + 1))
    forwards = {"graph": Graphed(model.network, model.device), "fused": model.network}
    series = timing.sweep(
        forwards, lambda size: pixels(model, size), [1, 2], model.device, warmup=0, repeats=3, seconds=1
    )
    errors = {(one.implementation, one.batch_size): one.error for one in series}
    assert "207008; the card is out of streams or graphs" in errors.pop(("graph", 2))
    assert not any(errors.values())
    assert series[0].prepare_s > 0
    assert series[1].prepare_s is None


def test_task_queue_enable_2_is_refused(model_folder):
    program = f"""
import torch
from ivit_helpers.device.graphs import Graphed
from ivit_helpers.device.selection import select
from ivit_helpers.weights.sources import find
from ivit_helpers.weights.loading import load
npu = select("npu")
model = load(find({str(model_folder)!r}), npu, torch.bfloat16)
try:
    with npu.inference():
        Graphed(model.network, npu)(torch.zeros(1, 3, 56, 56, device="npu"))
except RuntimeError as error:
    print(npu.explain(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "TASK_QUEUE_ENABLE": "2"}
    )
    assert "Do not support TASK_QUEUE_ENABLE = 2 during NPU graph capture" in done.stdout, done.stderr
    assert "graphs need TASK_QUEUE_ENABLE=0 or 1" in done.stdout


@pytest.mark.parametrize(
    ("dtype", "attention"),
    [("bfloat16", "npu::npu_prompt_flash_attention"), ("float32", "aten::scaled_dot_product_attention")],
)
def test_an_attention_that_cannot_be_captured_is_a_row_with_its_reason_and_the_rest_is_measured(
    npu, model_folder, tmp_path, monkeypatch, dtype, attention
):
    monkeypatch.setattr(type(npu), "matmul_side", 64)
    monkeypatch.setenv("NPU_RIG_WAITS", attention)
    given = {
        "device": "npu",
        "dtype": dtype,
        "model": str(model_folder),
        "out": str(tmp_path),
        "implementations": ["fused", "graph"],
    }
    with pytest.raises(ChecksFailed, match="graph agrees with the reference: RuntimeError: .* error code is 107027"):
        executed("benchmark", **given, batch_sizes=[1, 2], warmup=0, repeats=3, seconds=0.1)
    found = record.read(tmp_path / "benchmark.json")
    fused, graph = (next(row for row in found.rows if row.implementation == name) for name in ("fused", "graph"))
    assert graph.error.startswith("refused before timing: RuntimeError: ")
    assert "error code is 107027; the host waited for the card during graph capture" in graph.error
    assert fused.was_measured
    assert (fused.launches, graph.launches) == (33 if dtype == "bfloat16" else 42, None)


def test_the_attention_of_16_bits_is_one_that_an_op_plugin_before_26_captures_too(npu, model, monkeypatch):
    monkeypatch.setenv(
        "NPU_RIG_WAITS", "aten::scaled_dot_product_attention,npu::npu_fusion_attention,npu::npu_fusion_attention_v3"
    )
    with model.device.inference():
        Graphed(model.network, model.device)(pixels(model, 1))
