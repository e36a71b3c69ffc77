import pytest
import torch
import torch.nn.functional as F

from ivit_helpers.device import cpu as cpu_device
from ivit_helpers.measure.launches import audited
from ivit_helpers.model import kernels
from tests.builders import FUSED


def test_plain_gelu_is_the_exact_form_and_not_the_tanh_form():
    x = torch.linspace(-4, 4, 1001)
    assert (kernels.plain_gelu(x) - F.gelu(x)).abs().max() < 1e-6
    assert (kernels.plain_gelu(x) - F.gelu(x, approximate="tanh")).abs().max() > 1e-4


def test_plain_and_fused_attention_agree():
    q, k, v = torch.randn(3, 2, 4, 17, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    torch.testing.assert_close(kernels.plain_attention(q, k, v), FUSED.attention(q, k, v))


def test_plain_and_fused_rms_norm_agree():
    x, weight = torch.randn(3, 5, 64), torch.rand(64)
    torch.testing.assert_close(kernels.plain_rms_norm(x, weight, 1e-6), FUSED.rms_norm(x, weight, 1e-6))


def test_plain_kernels_keep_float64():
    x = torch.randn(4, 8, dtype=torch.float64)
    assert (kernels.plain_gelu(x) - F.gelu(x)).abs().max() < 1e-14


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_wide_products_on_the_cpu_round_once(dtype):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=generator).to(dtype) for shape in [(4, 64), (8, 64), (8,)])
    exact = F.linear(x.double(), weight.double(), bias.double())
    with cpu_device.WideProducts():
        found = F.linear(x, weight, bias)
        product = x @ weight.T
    assert found.dtype == product.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
def test_the_cpus_norm_reads_columns_of_a_wider_tensor_leaves_them_alone_and_takes_a_token_of_zeros(cpu, dtype):
    generator = torch.Generator().manual_seed(0)
    wider = torch.randn(2, 5, 3 * 64, generator=generator).to(dtype)
    wider[0, 1] = 0
    weight, before = (1 + 0.1 * torch.randn(64, generator=generator)).to(dtype), wider.clone()
    keys = wider.chunk(3, dim=-1)[1]
    exact = kernels.plain_rms_norm(keys.double(), weight.double(), 1e-6)
    with cpu.inference():
        found = FUSED.rms_norm(keys, weight, 1e-6)
    assert torch.equal(wider, before)
    assert (found.dtype, found.shape, found[0, 1].abs().max()) == (dtype, keys.shape, 0)
    usual = kernels.relative_error(kernels.plain_rms_norm(keys, weight, 1e-6), exact)
    assert kernels.relative_error(found, exact) <= 1.1 * usual + 1e-15


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_cpus_mlp_in_two_operators_rounds_no_worse_than_three(cpu, dtype):
    if not cpu.multiplies(dtype):
        pytest.skip(f"this CPU has no matrix instructions for {dtype}")
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 17, 64), (256, 64), (256,), (64, 256), (64,)]
    given = [torch.randn(*shape, generator=generator).div(shape[-1] ** 0.5).to(dtype) for shape in shapes]
    exact = kernels.PLAIN.mlp(*(part.double() for part in given), F.gelu)
    with cpu.inference():
        assert audited(lambda: FUSED.mlp(*given, F.gelu), cpu).calls == {("mkldnn::_linear_pointwise", "cpu"): 2}
        errors = [kernels.relative_error(run(*given, F.gelu), exact) for run in (FUSED.mlp, kernels.PLAIN.mlp)]
    assert errors[0] <= 1.1 * errors[1]
