import os

import torch

from ivit_helpers.device import npu
from ivit_helpers.smoke import operators

WARNING = (
    "[W1123 12:00:00 compiler.cpp:1] Warning: CAUTION: The operator 'aten::topk' is not currently supported on the NPU backend "
    "and will fall back to run on the CPU. This may have performance implications. (function npu_cpu_fallback)"
)


def test_operators_are_counted_with_the_device_they_ran_on_and_views_are_not(cpu):
    x = torch.ones(3, 4)
    audit = operators.audited(lambda: torch.exp(x.T.reshape(2, 6) @ torch.ones(6, 1)), cpu)
    assert audit.calls["aten::mm", "cpu"] == 1
    assert audit.calls["aten::exp", "cpu"] == 1
    assert not [name for name, _ in audit.calls if name in {"aten::t", "aten::view", "aten::transpose"}]


def test_a_reshape_that_copies_is_a_launch_and_one_that_does_not_is_none(cpu):
    x = torch.ones(3, 4)
    with cpu.inference():
        assert operators.audited(lambda: x.T.reshape(12), cpu).launches == 1
        assert operators.audited(lambda: x.reshape(12).unflatten(0, (3, 4)).float(), cpu).launches == 0
        assert operators.audited(x.bfloat16, cpu).launches == 1


def test_a_fall_back_that_c_code_writes_to_stderr_is_found(capfd):
    card = npu.NPU(torch.device("cpu"), "a card")
    audit = operators.audited(lambda: os.write(2, f"{WARNING}\n{WARNING}\n".encode()), card)
    assert audit.fell_back == ["aten::topk"]
    assert capfd.readouterr().err.count("CAUTION") == 2, "what was read is passed on"


def test_an_operator_that_fails_is_named(cpu):
    audit = operators.audited(lambda: torch.ones(2, 3) @ torch.ones(2, 3), cpu)
    assert list(audit.refused) == ["aten::mm"]
    assert "RuntimeError" in audit.refused["aten::mm"]


def test_other_lines_on_stderr_are_not_fall_backs():
    with npu.NPU(torch.device("cpu"), "a card").fall_backs() as fell_back:
        os.write(2, b"UserWarning: The operator 'aten::topk' is slow\n\nCAUTION\n")
    assert fell_back == []
    assert operators.Audit.is_fused("npu::npu_rms_norm")
    assert not operators.Audit.is_fused("aten::mul")
