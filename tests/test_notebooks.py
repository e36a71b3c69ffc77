"""The notebooks' own cells in this process, as both kinds of CPU: one with 16-bit matrix instructions, and one without."""

import pytest
import torch

from ivit_helpers.device import cpu
from tests.notebook import executed


@pytest.fixture(
    params=[(True, "bfloat16"), (False, "float32")], ids=["with 16-bit instructions", "without 16-bit instructions"]
)
def automatic_dtype(request, monkeypatch):
    """What dtype=auto means on this kind of CPU."""
    has_instructions, dtype = request.param
    monkeypatch.setattr(cpu, "multiplies_natively", lambda dtype: has_instructions)
    return dtype


@pytest.fixture
def given(model_folder, tmp_path, monkeypatch):
    """Parameters for a small model, where the matrix product that the benchmark measures is a small one."""
    monkeypatch.setattr(cpu.CPU, "matmul_side", 64)
    return {"model": str(model_folder), "device": "cpu", "dtype": "auto", "out": str(tmp_path / "out")}


LIMIT = {"bfloat16": 2e-2, "float32": 1e-5}


def test_the_smoke_notebook_passes_in_the_automatic_dtype(automatic_dtype, given):
    record = executed("smoke", **given, batch_size=2, warmup=0).run.record
    assert (record.status, record.model.dtype, record.rows[0].dtype) == ("passed", automatic_dtype, automatic_dtype), (
        record.checks
    )
    assert record.rows[0].relative_error < LIMIT[automatic_dtype]


def test_the_benchmark_notebook_passes_in_the_automatic_dtype(automatic_dtype, given):
    record = executed("benchmark", **given, batch_sizes=[1, 2], warmup=0, repeats=3).run.record
    assert record.status in {"passed", "not_judged"}, record.checks  # a busy machine is not judged
    assert record.model.dtype == automatic_dtype
    assert {row.dtype for row in record.rows} == {automatic_dtype}
    assert all(row.images_per_s > 0 and row.relative_error < LIMIT[automatic_dtype] for row in record.rows)


def test_the_explore_notebook_passes_in_the_automatic_dtype(automatic_dtype, given):
    record = executed("explore", **given, limit=4, block=2, attention_head=1, patch=3).run.record
    assert (record.status, record.model.dtype) == ("passed", automatic_dtype), record.checks
    assert [row.block for row in record.rows] == [0, 1, 2, 3]
    assert record.rows[-1].difference < LIMIT[automatic_dtype]
    assert len(record.answers) == 5
    assert len(record.neighbours) == record.gallery_images == 4
    assert "head is random" in record.verdict


@pytest.mark.parametrize("name", ["smoke", "accuracy", "explore"])
def test_cells_that_are_run_twice_replace_their_checks_caveats_and_rows(given, name, tmp_path):
    words = {
        "smoke": {"warmup": 0, "batch_size": 2},
        "accuracy": {"data": "synthetic", "limit": 4, "batch_size": 2},
        "explore": {"limit": 4},
    }[name]
    given |= {"dtype": "float32"}
    once, twice = (
        executed(name, times, **given | {"out": str(tmp_path / str(times))}, **words).run.record for times in (1, 2)
    )
    assert [check.name for check in twice.checks] == [check.name for check in once.checks]
    assert twice.caveats == once.caveats
    assert len(twice.rows) == len(once.rows) == (4 if name == "explore" else 1)
    assert twice.status == once.status


def test_the_accuracy_notebook_scores_in_the_automatic_dtype(automatic_dtype, given):
    namespace = executed("accuracy", **given, data="synthetic", limit=4, batch_size=2)
    assert namespace.run.record.status == "not_judged", "synthetic images have no labels"
    assert not namespace.run.record.failed
    assert namespace.loaded.dtype == getattr(torch, automatic_dtype)
