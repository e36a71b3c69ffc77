import hashlib

import pytest
import torch

from ivit_helpers.errors import InputError
from ivit_helpers.weights import files, reading


def fault(tensor, name="x.weight"):
    return reading.scan(tensor.flatten()).fault(name)


def values(count=2**19, dtype=torch.bfloat16):
    return torch.randn(count, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("count", [1, 7, 5000, 2**19])
def test_sound_values_pass(dtype, count):
    assert fault(values(count, dtype)) == ""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 300_000, -1])
def test_a_value_that_is_not_finite_is_found_wherever_it_is(dtype, value, place):
    tensor = values(dtype=dtype)
    tensor[place] = value
    assert fault(tensor) == "holds 1 values that are not finite"


def test_a_tensor_of_zeros_is_damage_but_a_bias_may_be_zero():
    assert fault(torch.zeros(3200)) == "is all zeros"
    assert fault(torch.zeros(100, 100, dtype=torch.bfloat16)) == "is all zeros"
    assert fault(torch.zeros(3200), "mlp.fc1.bias") == ""


@pytest.mark.parametrize("count", [10_000, 2**17, 2**17 + 1000])
def test_a_page_of_zeros_at_the_end_is_damage_and_less_is_not(count):
    tensor = values(count)
    tensor[-2048:] = 0
    assert fault(tensor) == "ends in a page of zeros"
    tensor[-2048] = 1
    assert fault(tensor) == ""


def test_the_largest_magnitude_is_found_in_whole_and_partial_blocks_and_for_either_sign():
    for place in (0, 2**17, -1):
        for value in (512.0, -512.0):
            tensor = values(2**18 + 1000)
            tensor[place] = value
            assert reading.scan(tensor).largest == 512
    assert reading.scan(-values().abs() - 1).largest == float(values().abs().add(1).max())


def test_a_hole_of_zeros_within_a_tensor_is_damage():
    tensor = values(2**20)
    tensor[200_000:500_000] = 0
    assert fault(tensor) == f"holds only zeros in the 262,144 bytes from its byte {2 * 2**18:,} on"


def test_scattered_zeros_are_not_damage():
    tensor = values()
    tensor[:2000] = 0
    tensor[::2] = 0
    assert fault(tensor) == ""


def test_the_digest_is_the_files(tmp_path):
    (tmp_path / "x").write_bytes(b"weights" * 1000)
    assert files.sha256(tmp_path / "x") == hashlib.sha256(b"weights" * 1000).hexdigest()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "x.bin is empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "x.bin is a git-LFS pointer, .* run `git lfs pull`",
        ),
        (b"<!DOCTYPE html><html>Sign in</html>", "x.bin is a web page, not the weights"),
        (b"\n<html>", "x.bin is a web page"),
    ],
)
def test_a_file_that_is_not_weights_is_reported_by_its_beginning(tmp_path, content, sentence):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        files.check_beginning(tmp_path / "x.bin")
