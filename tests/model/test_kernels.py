import pytest
import torch
import torch.nn.functional as F

from ivit_helpers.device import cpu
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
    with cpu.WideProducts():
        found = F.linear(x, weight, bias)
        product = x @ weight.T
    assert found.dtype == product.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-3)
