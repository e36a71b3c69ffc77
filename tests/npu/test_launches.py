"""Launches are counted to the last one, and a card that waits for the host is told from one that computes; the rig's clock is virtual."""

import ctypes

import pytest
import torch

from ivit_helpers.benchmark import launches
from ivit_helpers.benchmark.implementations import IMPLEMENTATIONS, implementations
from ivit_helpers.measure import timing
from ivit_helpers.measure.launches import audited
from ivit_helpers.measure.timing import pixel_batch
from ivit_helpers.record.parameters import BenchmarkParameters
from ivit_helpers.record.rows import BenchmarkRow
from ivit_helpers.record.run import start
from ivit_helpers.weights import loading, sources
from tests.builders import SMALL

LAYERS = 3
LAUNCHES = 10 * LAYERS + 3
"""Of a forward pass with fused kernels in bfloat16, and a patch embedding, class token and positions"""
HOST_MS = 0.25  # of one launch


@pytest.fixture
def loaded(npu, model_folder):
    return lambda dtype=torch.bfloat16: loading.load(sources.find(str(model_folder)), npu, dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("name", [name for name in IMPLEMENTATIONS if "compile" not in name])
def test_the_launches_that_are_counted_are_those_that_reach_the_card(loaded, name, dtype):
    model = loaded(dtype)
    [forward] = implementations([name], model).values()
    reached = ctypes.CDLL("libascendcl.so").rig_launches
    pixels = pixel_batch(model, 1)
    with model.device.inference():
        forward(pixels)
        before = reached()
        forward(pixels)
        between = reached()
        counted = audited(lambda: forward(pixels), model.device).launches
    assert counted == between - before == reached() - between


def measured(model, names, milliseconds, virtual_clock, monkeypatch):
    """Rows of implementations whose forward pass keeps the card busy for that long in all, where each launch takes the host 0.25 ms."""
    monkeypatch.setattr(timing.time, "perf_counter", virtual_clock)
    monkeypatch.setenv("NPU_RIG_HOST_MS", str(HOST_MS))
    monkeypatch.setenv("NPU_RIG_MS", f"aten::linear={milliseconds / (2 * LAYERS)}")
    forwards = implementations(names, model)
    series = timing.sweep(
        forwards, lambda size: pixel_batch(model, size), [1], model.device, warmup=1, repeats=3, seconds=1e9
    )
    rows = [BenchmarkRow(**one.row("bfloat16", 1).model_dump()) for one in series]
    launches.count(rows, forwards, model)
    return rows


def test_a_card_with_1_ms_of_work_waits_for_the_host_and_one_with_100_ms_does_not(
    loaded, virtual_clock, monkeypatch, tmp_path
):
    run = start(BenchmarkParameters(out=str(tmp_path)))
    host = HOST_MS * LAUNCHES
    [short] = measured(loaded(), ["fused"], 1, virtual_clock, monkeypatch)
    assert (short.launches, short.host_ms) == (LAUNCHES, pytest.approx(host))
    assert host <= short.device_ms < host + 1
    launches.check_waiting(run, [short])
    [long] = measured(loaded(), ["fused"], 100, virtual_clock, monkeypatch)
    assert (long.launches, long.host_ms) == (LAUNCHES, pytest.approx(host))
    assert 100 <= long.device_ms < 100 + host
    assert list(launches.launch_table([short, long]).frame["who waits"]) == [
        "launch-bound: this card waits for the host",
        "the host waits for the card",
    ]
    [check] = run.record.checks
    assert check.status == "skipped"
    expected = "launch-bound: this card waits for the host with fused at batch 1; add 'graph' to implementations, or use larger batches"
    assert check.detail == expected
    launches.check_waiting(run, [long])
    assert [check.status for check in run.record.checks] == ["passed"]


def test_a_graph_is_two_launches_and_takes_the_cards_time(loaded, virtual_clock, monkeypatch):
    fused, graph = measured(loaded(), ["fused", "graph"], 5, virtual_clock, monkeypatch)
    assert fused.is_launch_bound
    assert (graph.launches, graph.host_ms, graph.is_launch_bound) == (2, pytest.approx(2 * HOST_MS), False)
    assert graph.device_ms == pytest.approx(5 + 2 * HOST_MS)
    assert graph.latency_ms.mean < fused.latency_ms.mean


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_block_is_ten_launches_in_16_bits_and_the_very_first_call_is_no_more(loaded, dtype):
    model = loaded(dtype)
    tokens = torch.randn(1, SMALL.tokens, SMALL.hidden_size).to(model.device.torch_device, dtype)
    reached = ctypes.CDLL("libascendcl.so").rig_launches
    for block in model.network.encoder.layers:
        before = reached()
        with model.device.inference():
            block(tokens)
        assert reached() - before == 10


def test_a_block_is_twelve_launches_where_the_fused_mlp_is_refused(loaded, monkeypatch):
    monkeypatch.setenv("NPU_RIG_TANH", "npu::npu_ffn")
    model = loaded()
    pixels = pixel_batch(model, 1)
    with model.device.inference():
        audit = audited(lambda: model.network(pixels), model.device)
    assert audit.launches == LAUNCHES + 2 * LAYERS
    assert audit.calls["npu::npu_gelu", "npu"] == LAYERS
