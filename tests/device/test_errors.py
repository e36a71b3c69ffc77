"""The numbers and phrases that Ascend users meet in errors each get a sentence that says what to do."""

import pytest
import torch

from ivit_helpers.device.npu import NPU

CARD = NPU(torch.device("cpu"), "Ascend910B4")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("EH9999 ... error code is 500001", "driver and CANN do not match"),
        ("libtorch_npu.so: undefined symbol: _ZN3c10", "torch and torch-npu are of different versions"),
        ("rtStreamCreate failed, error code 207008", "out of streams or graphs"),
        ("aclmdlRIExecuteAsync failed, error code 507011", "a captured graph failed when it was replayed"),
        ("stream capture error 107025", "not joined back"),
        ("AclrtSynchronizeStreamWithTimeout(stream()), error code is 107027", "unset ASCEND_LAUNCH_BLOCKING"),
        ("AclrtSynchronizeDeviceWithTimeout, error code is 107030", "waits for the card, or cannot be captured"),
        ("Do not support TASK_QUEUE_ENABLE = 2 during NPU graph capture", "TASK_QUEUE_ENABLE=0 or 1"),
        ("ACLGraph capture is not supported when pin_memory_expandable_segments=True", "out of PYTORCH_NPU_ALLOC_CONF"),
        ("aclnnMatmul failed, error code is 161002", "does not take this dtype"),
        ("Cannot run aclop operators during NPU graph capture", "allow_internal_format = False"),
    ],
)
def test_a_known_error_says_what_it_means_and_what_to_do(text, meaning):
    assert CARD.explain(RuntimeError(text)).startswith(f"RuntimeError: {text}; ")
    assert meaning in CARD.explain(RuntimeError(text))


def test_an_unknown_error_is_given_as_it_is():
    assert CARD.explain(RuntimeError("something else\nand a stack")) == "RuntimeError: something else"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("NPU out of memory. Tried"), MemoryError("x"), RuntimeError("CUDA out of memory.")]
)
def test_running_out_of_memory_is_called_so(error):
    assert CARD.explain(error).startswith("out of memory: ")
