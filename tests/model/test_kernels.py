"""Plain kernels compute what they should; fused ones are compared with them in a wider dtype before they are used."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ivit_helpers.device.cpu import WideProducts
from ivit_helpers.measure.launches import audited
from ivit_helpers.model import kernel_check
from ivit_helpers.model.kernels import PLAIN, relative_error
from ivit_helpers.weights.loading import load
from tests.builders import FUSED, SMALL

LOW = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
EVERY = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tanh_gelu(x):
    return F.gelu(x.float(), approximate="tanh").to(x.dtype)


def test_plain_kernels_agree_with_torchs_and_gelu_is_the_exact_form():
    x, weight = normal(3, 5, 64), normal(64)
    q, k, v = normal(3, 2, 4, 17, 8).unbind(0)
    line = torch.linspace(-4, 4, 1001, dtype=torch.float64)
    assert (PLAIN.gelu(line) - F.gelu(line)).abs().max() < 1e-14
    assert (PLAIN.gelu(line) - tanh_gelu(line)).abs().max() > 1e-4
    torch.testing.assert_close(PLAIN.rms_norm(x, weight, 1e-6), F.rms_norm(x, (64,), weight, 1e-6))
    torch.testing.assert_close(PLAIN.attention(q, k, v), F.scaled_dot_product_attention(q, k, v))


@LOW
def test_wide_products_on_the_cpu_round_once(dtype):
    x, weight, bias = (normal(*shape).to(dtype) for shape in [(4, 64), (8, 64), (8,)])
    exact = F.linear(x.double(), weight.double(), bias.double())
    with WideProducts():
        result, product = F.linear(x, weight, bias), x @ weight.T
    assert result.dtype == product.dtype == dtype
    torch.testing.assert_close(result.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-3)


@EVERY
def test_the_cpus_norm_reads_columns_of_a_wider_tensor_and_takes_a_token_of_zeros(cpu, dtype):
    wider = normal(2, 5, 3 * 64).to(dtype)
    wider[0, 1] = 0
    weight, before, keys = (1 + 0.1 * normal(64)).to(dtype), wider.clone(), wider.chunk(3, dim=-1)[1]
    exact = PLAIN.rms_norm(keys.double(), weight.double(), 1e-6)
    with cpu.inference():
        result = FUSED.rms_norm(keys, weight, 1e-6)
    assert torch.equal(wider, before)
    assert (result.dtype, result.shape, result[0, 1].abs().max()) == (dtype, keys.shape, 0)
    assert relative_error(result, exact) <= 1.1 * relative_error(PLAIN.rms_norm(keys, weight, 1e-6), exact) + 1e-15


@LOW
def test_the_cpus_mlp_in_two_operators_rounds_no_worse_than_three(cpu, dtype):
    if not cpu.multiplies(dtype):
        pytest.skip(f"this CPU has no matrix instructions for {dtype}")
    shapes = [(2, 17, 64), (256, 64), (256,), (64, 256), (64,)]
    given = [normal(*shape).div(shape[-1] ** 0.5).to(dtype) for shape in shapes]
    exact = PLAIN.mlp(*(part.double() for part in given), F.gelu)
    with cpu.inference():
        assert audited(lambda: FUSED.mlp(*given, F.gelu), cpu).calls == {("mkldnn::_linear_pointwise", "cpu"): 2}
        fused, plain = (relative_error(run(*given, F.gelu), exact) for run in (FUSED.mlp, PLAIN.mlp))
    assert fused <= 1.1 * plain


@EVERY
def test_this_machines_fused_kernels_are_trusted(cpu, dtype):
    chosen, verdicts = kernel_check.trusted_kernels(SMALL, cpu, dtype)
    assert chosen.name == "fused"
    assert [verdict.kernel for verdict in verdicts][:4] == ["rms_norm", "gelu", "attention", "add_scaled"]
    assert ("mlp" in [verdict.kernel for verdict in verdicts]) == (FUSED.mlp is not PLAIN.mlp)
    assert all(0 < verdict.error <= verdict.allowed for verdict in verdicts)


FAULTS = {
    "tanh gelu": ("gelu", lambda x: F.gelu(x, approximate="tanh")),
    "layer norm": ("rms_norm", lambda x, weight, epsilon: F.layer_norm(x, x.shape[-1:], weight, eps=epsilon)),
    "uniform attention": ("attention", lambda q, k, v: v.mean(-2, keepdim=True).expand_as(q)),
    "wrong scale": ("attention", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=1.0)),
    "not a number": ("attention", lambda q, k, v: torch.full_like(q, float("nan"))),
    "no layer scale": ("add_scaled", lambda x, update, scale: x + update),
    "the residual scaled": ("add_scaled", lambda x, update, scale: x * scale + update),
    "tanh mlp": ("mlp", lambda *given: PLAIN.mlp(*given[:-1], tanh_gelu)),
    "no bias": ("mlp", lambda x, w1, b1, w2, b2, gelu: PLAIN.mlp(x, w1, b1 * 0, w2, b2, gelu)),
}
"""Each was met in the field"""


@EVERY
@pytest.mark.parametrize(("kernel", "faulty"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_kernel_is_refused_with_its_error_and_only_that_one(cpu, monkeypatch, dtype, kernel, faulty):
    monkeypatch.setattr(kernel_check, "fused", lambda _: replace(FUSED, **{kernel: faulty}))
    chosen, verdicts = kernel_check.trusted_kernels(SMALL, cpu, dtype)
    assert [verdict.kernel for verdict in verdicts if verdict.refused] == [kernel]
    assert getattr(chosen, kernel) is getattr(PLAIN, kernel)
    assert chosen.name == f"fused, but plain {kernel}"


def test_a_kernel_that_cannot_run_is_refused_with_the_devices_words(cpu, monkeypatch):
    def missing(*_):
        raise RuntimeError("aclnnFoo is not in libopapi.so\nand a stack")

    monkeypatch.setattr(kernel_check, "fused", lambda _: replace(FUSED, attention=missing))
    _, verdicts = kernel_check.trusted_kernels(SMALL, cpu, torch.float32)
    assert str(verdicts[2]) == "refused by the device: RuntimeError: aclnnFoo is not in libopapi.so"


def test_a_devices_other_operator_is_tried_before_the_plain_one(cpu, monkeypatch):
    uniform = FAULTS["uniform attention"][1]
    monkeypatch.setattr(kernel_check, "fused", lambda _: replace(FUSED, attention=uniform))
    for second, used, name in (
        (FUSED.attention, FUSED.attention, "fused"),
        (uniform, PLAIN.attention, "fused, but plain attention"),
    ):
        monkeypatch.setattr(type(cpu), "other_operators", lambda _, second=second: {"attention": second})
        chosen, verdicts = kernel_check.trusted_kernels(SMALL, cpu, torch.float32)
        assert (chosen.attention, chosen.name) == (used, name)
        assert ("the first choice was refused (its numbers are wrong" in str(verdicts[2])) == (name == "fused")


def test_a_loaded_network_computes_with_the_kernels_that_were_trusted(cpu, monkeypatch, tiny):
    monkeypatch.setattr(kernel_check, "fused", lambda _: replace(FUSED, gelu=FAULTS["tanh gelu"][1]))
    loaded = load(tiny.checkpoint, cpu, torch.float32)
    assert loaded.network.encoder.layers[0].mlp.kernels.gelu is PLAIN.gelu
    assert loaded.facts().kernels == "fused, but plain gelu"
