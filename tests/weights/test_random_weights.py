import pytest
import torch

from ivit_helpers.model.network import SHAPES, InternViT
from ivit_helpers.weights.random_weights import POOL, normal_pool, random_tensor, random_weights


def test_they_are_the_same_every_time_normal_and_no_two_tensors_are_alike(cpu):
    with torch.device("meta"):
        expected = InternViT(SHAPES["tiny-224"]).state_dict()
    one, other = (random_weights("tiny", expected, cpu, torch.float32) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in expected)
    assert all(one[name].shape == tensor.shape for name, tensor in expected.items())
    attention, matrix = "encoder.layers.0.attn.", one["encoder.layers.0.mlp.fc1.weight"]
    assert not torch.equal(one[f"{attention}q_norm.weight"], one[f"{attention}k_norm.weight"])
    assert one["encoder.layers.0.norm1.weight"].mean().item() == pytest.approx(1, abs=0.02)
    assert matrix.std().item() == pytest.approx(matrix.shape[1] ** -0.5, rel=0.02)
    assert abs(matrix.mean().item()) < 0.02 * matrix.std().item()
    assert ((matrix / matrix.std()) ** 4).mean().item() == pytest.approx(3, rel=0.05)  # of a normal distribution


def test_a_tensor_larger_than_the_pool_repeats_no_row():
    tensor = random_tensor("fc.weight", (6_000, 3_200), 3, normal_pool())
    assert tensor.numel() > POOL
    assert len(torch.unique(tensor[:, :2], dim=0)) == 6_000
    first, again = tensor[:700], tensor[5_243:5_943]  # the rows that the second turn of the pool begins in
    assert abs(torch.corrcoef(torch.stack([first.flatten(), again.flatten()]))[0, 1].item()) < 0.01
