from dataclasses import replace

import torch
from PIL import Image

from ivit_helpers.measure import fidelity
from ivit_helpers.model import kernel_check
from ivit_helpers.record.parameters import SmokeParameters
from ivit_helpers.record.rows import SmokeRow
from ivit_helpers.record.run import start
from ivit_helpers.smoke import correctness
from ivit_helpers.weights import loading, sources
from tests.builders import FUSED


def run_and_reference(tmp_path, cpu):
    run = start(SmokeParameters(out=str(tmp_path / "run")))
    run.note(rows=[SmokeRow(implementation="fused", dtype="bfloat16", batch_size=1)])
    loaded = loading.load(sources.find("tiny"), cpu, torch.bfloat16)
    side = loaded.network.config.image_size
    pixels = loaded.checkpoint.transform(Image.new("RGB", (side, side), "orange"))[None]
    return run, loaded, fidelity.reference_states(loaded.network, pixels, loaded.dtype)


def test_the_error_of_each_block_alone_is_checked_and_recorded(tmp_path, cpu):
    run, loaded, expected = run_and_reference(tmp_path, cpu)
    correctness.blocks_alone(run, loaded, expected)
    [check] = run.record.checks
    assert (check.name, check.status) == ("each block alone", "passed")
    [row] = run.record.rows
    blocks = loaded.network.config.num_hidden_layers
    assert len(row.block_errors) == len(row.block_errors_transformers) == len(row.block_errors_allowed) == blocks


def test_blocks_with_too_large_an_error_fail_the_check_by_number(tmp_path, cpu):
    run, loaded, expected = run_and_reference(tmp_path, cpu)
    for number in (1, 3):
        loaded.network.encoder.layers[number].mlp.register_forward_hook(lambda *given: given[-1] * 1.001)
    correctness.blocks_alone(run, loaded, expected)
    [check] = run.record.checks
    assert check.status == "failed"
    assert check.detail.endswith("beyond that: block 2, 4")


def test_where_a_kernel_is_wrong_in_float32_the_plain_one_is_used_and_the_check_is_skipped(tmp_path, cpu, monkeypatch):
    def coarse(q, k, v):
        return FUSED.attention(q.bfloat16(), k.bfloat16(), v.bfloat16()).to(q.dtype)

    monkeypatch.setattr(kernel_check, "fused", lambda _: replace(FUSED, attention=coarse))
    run, loaded, expected = run_and_reference(tmp_path, cpu)
    assert loaded.network.kernels.attention is coarse
    correctness.blocks_alone(run, loaded, expected)
    [check] = run.record.checks
    assert check.status == "skipped"
    assert "computed with plain attention: the fused form is wrong in float32, so this check is skipped" in check.detail


def test_a_device_without_float32_skips_the_check_and_says_why(tmp_path, cpu):
    run, loaded, expected = run_and_reference(tmp_path, cpu)

    def refuse(*_given):
        raise RuntimeError("no kernel for float32")

    loaded.network.encoder.layers[0].register_forward_hook(refuse)
    correctness.blocks_alone(run, loaded, expected)
    [check] = run.record.checks
    assert check.status == "skipped"
    assert "no kernel for float32" in check.detail
