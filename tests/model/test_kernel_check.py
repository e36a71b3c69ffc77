"""Fused kernels are compared with plain ones in a wider dtype; each fault here was met in the field."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ivit_helpers.model import kernel_check, kernels
from ivit_helpers.weights import checkpoint, loading
from tests.builders import FUSED, SMALL

BOTH = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)


def broken(**parts):
    return lambda _device: replace(FUSED, **parts)


@BOTH
def test_this_machines_fused_kernels_are_trusted(cpu, dtype):
    chosen, verdicts = kernel_check.trusted_kernels(SMALL, cpu, dtype)
    assert chosen.name == "fused"
    assert [verdict.kernel for verdict in verdicts][:4] == ["rms_norm", "gelu", "attention", "add_scaled"]
    assert ("mlp" in [verdict.kernel for verdict in verdicts]) == (
        cpu.multiplies(torch.bfloat16) or cpu.multiplies(torch.float16)
    )
    assert all(0 < verdict.error <= verdict.allowed for verdict in verdicts)


@BOTH
@pytest.mark.parametrize(
    ("kernel", "faulty"),
    [
        ("gelu", lambda x: F.gelu(x, approximate="tanh")),
        ("rms_norm", lambda x, weight, epsilon: F.layer_norm(x, x.shape[-1:], weight, eps=epsilon)),
        ("attention", lambda q, k, v: v.mean(-2, keepdim=True).expand_as(q)),
        ("attention", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=1.0)),
        ("attention", lambda q, k, v: torch.full_like(q, float("nan"))),
        ("add_scaled", lambda x, update, scale: x + update),
        ("add_scaled", lambda x, update, scale: x * scale + update),
        (
            "mlp",
            lambda *given: kernels.PLAIN.mlp(*given[:-1], lambda x: F.gelu(x.float(), approximate="tanh").to(x.dtype)),
        ),
        ("mlp", lambda x, w1, b1, w2, b2, gelu: kernels.PLAIN.mlp(x, w1, b1 * 0, w2, b2, gelu)),
    ],
    ids=[
        "tanh gelu",
        "layer norm",
        "uniform attention",
        "wrong scale",
        "not a number",
        "no layer scale",
        "the residual scaled",
        "tanh mlp",
        "no bias",
    ],
)
def test_a_wrong_kernel_is_refused_with_its_error_and_only_that_one(cpu, monkeypatch, dtype, kernel, faulty):
    monkeypatch.setattr(kernel_check, "fused", broken(**{kernel: faulty}))
    chosen, verdicts = kernel_check.trusted_kernels(SMALL, cpu, dtype)
    assert [verdict.kernel for verdict in verdicts if verdict.refused] == [kernel]
    assert getattr(chosen, kernel) is getattr(kernels.PLAIN, kernel)
    assert chosen.name == f"fused, but plain {kernel}"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_an_mlp_in_one_launch_is_trusted_where_its_gelu_is_exact_and_its_activations_are_wide(cpu, monkeypatch, dtype):
    def exact(x, weight1, bias1, weight2, bias2, _gelu):
        wide = kernels.PLAIN.mlp(*(part.float() for part in (x, weight1, bias1, weight2, bias2)), F.gelu)
        return wide.to(x.dtype)

    monkeypatch.setattr(kernel_check, "fused", broken(mlp=exact))
    chosen, verdicts = kernel_check.trusted_kernels(SMALL, cpu, dtype)
    assert chosen.mlp is exact
    assert (verdicts[-1].kernel, verdicts[-1].refused) == ("mlp", "")


def test_a_kernel_that_cannot_run_is_refused_with_the_devices_words(cpu, monkeypatch):
    def missing(*_):
        raise RuntimeError("aclnnFoo is not in libopapi.so\nand a stack")

    monkeypatch.setattr(kernel_check, "fused", broken(attention=missing))
    _, verdicts = kernel_check.trusted_kernels(SMALL, cpu, torch.float32)
    assert str(verdicts[2]) == "refused by the device: RuntimeError: aclnnFoo is not in libopapi.so"


def test_a_devices_other_operator_is_tried_before_the_plain_one(cpu, monkeypatch):
    uniform = broken(attention=lambda q, k, v: v.mean(-2, keepdim=True).expand_as(q))
    monkeypatch.setattr(kernel_check, "fused", uniform)
    monkeypatch.setattr(type(cpu), "other_operators", lambda _: {"attention": FUSED.attention})
    chosen, verdicts = kernel_check.trusted_kernels(SMALL, cpu, torch.float32)
    assert chosen.attention is FUSED.attention
    assert chosen.name == "fused"
    assert "the first choice was refused (its numbers are wrong" in str(verdicts[2])
    monkeypatch.setattr(type(cpu), "other_operators", lambda _: {"attention": uniform(cpu).attention})
    chosen, verdicts = kernel_check.trusted_kernels(SMALL, cpu, torch.float32)
    assert chosen.attention is kernels.plain_attention
    assert "the second is used" not in str(verdicts[2])


def test_a_loaded_network_computes_with_the_kernels_that_were_trusted(cpu, monkeypatch, model_folder):
    monkeypatch.setattr(kernel_check, "fused", broken(gelu=lambda x: F.gelu(x, approximate="tanh")))
    loaded = loading.load(checkpoint.find(str(model_folder)), cpu, torch.float32)
    assert loaded.network.encoder.layers[0].mlp.kernels.gelu is kernels.plain_gelu
    assert loaded.facts().kernels == "fused, but plain gelu"
