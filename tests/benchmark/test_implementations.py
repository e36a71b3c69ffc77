"""What is compared: one set of tensors, and a row with a reason for what a device cannot do."""

import pytest
import torch
from torch import nn

from ivit_helpers.benchmark import launches
from ivit_helpers.benchmark.implementations import IMPLEMENTATIONS, implementations
from ivit_helpers.device import cpu
from ivit_helpers.device.graphs import Compiled
from ivit_helpers.errors import Unavailable
from ivit_helpers.measure.fidelity import reference_states
from ivit_helpers.measure.timing import pixel_batch
from ivit_helpers.record.parameters import BenchmarkParameters
from ivit_helpers.record.rows import BenchmarkRow
from ivit_helpers.record.run import start
from ivit_helpers.weights import loading, sources
from tests.notebook import executed


@pytest.fixture
def small(model_folder, cpu):
    return loading.load(sources.find(str(model_folder)), cpu, torch.float32)


@pytest.fixture
def backend(monkeypatch):
    """Have torch.compile call this instead of a compiler; it gets the traced graph."""
    return lambda compiler: monkeypatch.setattr(cpu.CPU, "compile_backend", lambda _: compiler)


def storages(module):
    return {tensor.untyped_storage().data_ptr() for tensor in [*module.parameters(), *module.buffers()]}


@pytest.mark.parametrize("name", ["fused", "plain", "transformers-sdpa", "transformers-eager"])
def test_every_network_computes_with_the_loaded_tensors_and_agrees_with_the_reference(small, name):
    [forward] = implementations([name], small).values()
    assert isinstance(forward, nn.Module)
    assert storages(forward) == storages(small.network)
    pixels = pixel_batch(small, 1)
    with small.device.inference():
        assert reference_states(small.network, pixels, small.dtype).agreement(forward(pixels)).passed


def test_transformers_eager_and_sdpa_are_two_attentions(small):
    counted = {}
    rows = [
        BenchmarkRow(implementation=name, dtype="float32", batch_size=1)
        for name in ("transformers-sdpa", "transformers-eager")
    ]
    launches.count(rows, implementations([row.implementation for row in rows], small), small)
    counted = {row.implementation: row.launches for row in rows}
    assert counted["transformers-eager"] > counted["transformers-sdpa"]


def test_a_network_is_compiled_once_for_each_batch_size_into_one_graph(small, backend):
    traced = []
    backend(lambda graph, inputs: traced.append(graph) or graph)
    compiled = Compiled(small.network, small.device)
    with small.device.inference():
        for size in (1, 2, 1):
            torch.testing.assert_close(compiled(pixel_batch(small, size)), small.network(pixel_batch(small, size)))
    assert len(traced) == len(compiled.prepared_s) == 2


def test_more_batch_sizes_than_torchs_own_limit_are_all_compiled(small, backend):
    traced = []
    backend(lambda graph, inputs: traced.append(graph) or graph)
    compiled = Compiled(small.network, small.device)
    with small.device.inference():
        for size in range(1, 11):
            compiled(pixel_batch(small, size))
    assert len(traced) == 10


def test_what_does_not_compile_says_why_in_one_sentence(small, backend):
    def broken(graph, inputs):
        raise RuntimeError("no C++ compiler was found\nand a stack")

    backend(broken)
    with pytest.raises(Unavailable) as caught, small.device.inference():
        Compiled(small.network, small.device)(pixel_batch(small, 1))
    assert str(caught.value).startswith("torch.compile does not compile this network here (")
    assert "no C++ compiler was found" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_running_out_of_memory_while_compiling_is_called_so(small, backend):
    def hungry(graph, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    backend(hungry)
    with pytest.raises(Exception, match="out of memory") as caught, small.device.inference():
        Compiled(small.network, small.device)(pixel_batch(small, 1))
    assert not isinstance(caught.value, Unavailable)


def test_the_notebook_measures_what_it_can_and_says_why_not_for_the_rest(model_folder, tmp_path, monkeypatch, backend):
    monkeypatch.setattr(cpu.CPU, "matmul_side", 64)
    backend(lambda graph, inputs: graph)
    given = {"device": "cpu", "dtype": "float32", "model": str(model_folder), "out": str(tmp_path)}
    ran = executed(
        "benchmark",
        **given,
        implementations=list(IMPLEMENTATIONS),
        batch_sizes=[1, 2],
        warmup=0,
        repeats=3,
        seconds=0.1,
    )
    record = ran.run.record
    assert not record.failed, record.checks
    by_name = {row.implementation: row for row in record.rows if row.batch_size == 2}
    assert list(by_name) == list(IMPLEMENTATIONS)
    assert by_name["graph"].unavailable == "device='cpu' has no graphs: there are no launches to save"
    assert [name for name, row in by_name.items() if not row.was_measured] == ["graph"]
    assert by_name["compile"].prepare_s > 0
    assert by_name["fused"].prepare_s is None
    assert all(row.ratio for name, row in by_name.items() if name not in {"graph", "transformers-sdpa"})
    assert (by_name["fused"].launches, by_name["compile"].launches) == (12 * 3 + 3, None)
    [page] = [text for text in ran.shown if "who waits" in text]
    assert "n/a: a CPU computes in the calls themselves" in page
    assert "launch-bound" not in page
    assert "the card does not wait for the host" not in {check.name for check in record.checks}


def test_advice_for_a_card_that_waits_does_not_name_a_graph_that_was_asked_for(tmp_path):
    run = start(BenchmarkParameters(out=str(tmp_path)))
    row = BenchmarkRow(
        implementation="fused", dtype="float32", batch_size=1, images_per_s=10, host_ms=9.5, device_ms=10
    )
    launches.check_waiting(run, [row])
    assert run.record.checks[-1].detail.endswith(
        "fused at batch 1; add 'graph' to implementations, or use larger batches"
    )
    launches.check_waiting(run, [row, row.model_copy(update={"implementation": "graph", "host_ms": 1})])
    assert run.record.checks[-1].detail.endswith("fused at batch 1; use larger batches")


def test_a_call_whose_last_launch_returns_early_is_not_launch_bound():
    row = BenchmarkRow(implementation="fused", dtype="float32", batch_size=1, host_ms=8, device_ms=10)
    assert not row.is_launch_bound
    assert row.model_copy(update={"host_ms": 9.1}).is_launch_bound
