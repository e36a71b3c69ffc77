"""Two sides of one image: equal ones do not differ, a fault shows after its block and at its place, and a file is not trusted."""

import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from ivit_helpers.errors import InputError
from ivit_helpers.explore import saved
from ivit_helpers.explore.sides import compare, judged, token_differences
from ivit_helpers.weights.loading import load
from ivit_helpers.weights.sources import find
from tests.explore.test_states import looked


@pytest.fixture
def loaded(model_folder, cpu):
    return load(find(str(model_folder)), cpu, torch.float32)


@pytest.fixture
def file(loaded, tmp_path):
    """What another run of the same network saved of the same image."""
    sides = compare(loaded, looked(), "cpu")
    path = tmp_path / "explore_states.safetensors"
    path.write_bytes(saved.packed(sides.states, looked(), loaded, sides.peer))
    return path


def test_a_right_network_agrees_with_the_reference_on_the_cpu(loaded):
    sides = compare(loaded, looked(), "cpu")
    passed, detail = sides.judgement
    assert passed, detail
    assert sides.other == "the CPU in float64"
    assert len(sides.rows()) == len(sides.differences) == 4
    assert all(0 < row.difference < 1e-5 and row.transformers > 0 for row in sides.rows())
    assert sides.finite == sides.values == 4 * 17 * 64


def test_a_fault_in_one_patch_of_one_block_is_found_there(loaded):
    def fault(_module, _inputs, output):
        output = output.clone()
        output[:, 1 + 6] += 0.1
        return output

    loaded.network.encoder.layers[1].register_forward_hook(fault)
    sides = compare(loaded, looked(), "cpu")
    assert sides.judgement[0] is False
    assert sides.differences[1] < 1e-5
    assert sides.differences[2] > 1e-3
    assert sides.rows()[2].largest_at == 7
    assert "the largest difference" in repr(sides.where(2, 4))
    assert "row 2, column 3" in repr(sides.where(2, 4))


def test_values_that_are_not_finite_are_counted_and_fail(loaded):
    def fault(_module, _inputs, output):
        output = output.clone()
        output[:, 3] = torch.nan
        return output

    loaded.network.encoder.layers[2].register_forward_hook(fault)
    sides = compare(loaded, looked(), "cpu")
    assert sides.judgement[0] is False
    assert sides.values - sides.finite == 64
    assert sides.rows()[3].difference is None
    assert sides.where(3, 4)._repr_html_().count("var(--bad)") >= 1
    sides.figure()._repr_html_()


def test_the_difference_of_a_token_is_relative_to_a_usual_token():
    there = torch.ones(3, 4)
    here = there.clone()
    here[1] += 0.5
    assert token_differences(here, there).tolist() == pytest.approx([0, 0.5, 0])
    squares = token_differences(here, there).square().mean().sqrt()
    assert float(squares) == pytest.approx(float((here - there).norm() / there.norm()))


def test_the_same_network_has_the_states_that_it_saved(loaded, file):
    sides = compare(loaded, looked(), str(file))
    assert set(sides.differences) == {0.0}
    assert sides.judgement[0] is True
    assert sides.peer is None
    assert "saved by another run" in sides.other
    sides.figure()._repr_html_()


def test_another_run_s_fault_is_found_and_rounding_is_not(loaded, file):
    loaded.network.encoder.layers[2].ls1.mul_(1.01)
    passed, detail = compare(loaded, looked(), str(file)).judgement
    assert passed is False
    assert "rounding on both sides explains up to" in detail


def test_what_rounding_explains_is_not_said_of_another_dtype_or_without_a_reference():
    origin = saved.Origin(image="a", checksum="0", model="m", device="d", dtype="float32", peer_errors=[1e-7, 1e-6])
    assert judged(3.9e-6, origin, torch.float32)[0] is True
    assert judged(4.1e-6, origin, torch.float32)[0] is False
    assert judged(float("nan"), origin, torch.float32)[0] is False
    assert judged(1e-6, origin, torch.bfloat16)[0] is None
    assert judged(1e-6, origin.model_copy(update={"peer_errors": None}), torch.float32)[0] is None


def test_states_of_another_image_or_network_are_refused(loaded, file):
    with pytest.raises(InputError, match=r"is of the image noise 0 \(\w+\), and this one is noise 1"):
        compare(loaded, looked(1), str(file))
    smaller = replace(loaded.network.config, num_hidden_layers=2)
    with pytest.raises(InputError, match="is of another network than this one, which has 3 states of 17 by 64"):
        saved.saved_states(str(file), looked(), smaller)


def forged(tensors, origin):
    return safetensors.torch.save(tensors, {"ivit": origin})


STATE = {"after.000": torch.zeros(17, 64)}
FORGED = {
    "no file at all": (None, "does not exist"),
    "noise": (b"\1\2\3" * 100, "has a header of"),
    "a short header": (b"\2\0\0\0\0\0\0\0{}", "holds no states of a run"),
    "an endless header": ((2**62).to_bytes(8, "little") + b"{}", "has a header of"),
    "weights": (safetensors.torch.save(STATE), "holds no states of a run"),
    "words": (forged(STATE, "words"), "holds no states of a run"),
    "a deep nest": (forged(STATE, "[" * 100_000), "holds no states of a run"),
    "a field too many": (forged(STATE, json.dumps({"image": "a", "code": "b"})), "holds no states of a run"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_is_no_file_of_states_is_one_sentence(name, tmp_path):
    content, says = FORGED[name]
    path = tmp_path / "states"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        saved.origin_of(str(path))
    assert "give the explore_states.safetensors of a run with save=true" in str(error.value)
    assert len(str(error.value)) < 1000
