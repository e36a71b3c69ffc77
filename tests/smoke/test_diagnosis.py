"""The fall back ladder, with faults that one of the attempts each avoids."""

from dataclasses import replace

import pytest
import torch

from ivit_helpers.model import kernels
from ivit_helpers.smoke import diagnosis
from ivit_helpers.weights import loading, sources
from tests.builders import FUSED


@pytest.fixture
def failing(cpu, model_folder):
    """A loaded network whose fused GELU fails on what `fails` says of its input."""

    def make(fails, dtype=torch.bfloat16):
        def gelu(x):
            if fails(x):
                raise RuntimeError("the kernel gave up\nstack")
            return kernels.plain_gelu(x)

        loaded = loading.load(sources.find(str(model_folder)), cpu, dtype)
        return replace(loaded, network=loaded.network.sharing_weights(replace(FUSED, gelu=gelu, mlp=kernels.PLAIN.mlp)))

    return make


def once():
    calls = []
    return lambda x: not calls and not calls.append(x)


@pytest.mark.parametrize(
    ("fails", "worked", "next_step"),
    [
        (lambda x: x.dtype == torch.bfloat16, ["float32", "plain kernels"], "dtype='float32'"),
        (lambda x: len(x) > 1, ["one image", "plain kernels"], "smaller batch_size"),
        (lambda x: True, ["plain kernels"], "implementations=['plain']"),
    ],
    ids=["dtype", "batch", "kernel"],
)
def test_the_advice_is_that_of_the_first_attempt_that_works(failing, fails, worked, next_step):
    attempts = diagnosis.ladder(failing(fails), 4)
    assert [attempt.name for attempt in attempts if attempt.worked] == worked
    assert attempts[0].outcome == "RuntimeError: the kernel gave up"
    assert next_step in diagnosis.advice(attempts)


def test_a_failure_that_does_not_happen_again_is_called_not_deterministic(failing):
    loaded = failing(once())
    with pytest.raises(RuntimeError), loaded.device.inference():
        loaded.network(torch.zeros(1, 3, 56, 56))
    assert "not deterministic" in diagnosis.advice(diagnosis.ladder(loaded, 2))


def test_an_attempt_that_cannot_be_made_says_why(failing):
    attempts = {attempt.name: attempt for attempt in diagnosis.ladder(failing(lambda x: True, torch.float32), 1)}
    assert attempts["float32"].outcome == "not tried: the run is already in float32"
    assert attempts["one image"].outcome == "not tried: the batch is already one image"


def test_when_nothing_helps_the_advice_is_to_check_the_versions(failing, monkeypatch):
    monkeypatch.setattr(diagnosis, "why_it_fails", lambda *_: "RuntimeError: no")
    assert diagnosis.advice(diagnosis.ladder(failing(lambda x: True), 2)) == diagnosis.NOTHING_HELPED
