import torch

from ivit_helpers.model.network import SHAPES, InternViT
from ivit_helpers.weights.random_weights import random_weights


def test_they_are_the_same_every_time_and_no_two_tensors_are_alike(cpu):
    with torch.device("meta"):
        expected = InternViT(SHAPES["tiny-224"]).state_dict()
    one, other = (random_weights("tiny", expected, cpu, torch.bfloat16) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in expected)
    assert one["encoder.layers.0.attn.q_norm.weight"].dtype == torch.bfloat16
    assert not torch.equal(one["encoder.layers.0.attn.q_norm.weight"], one["encoder.layers.0.attn.k_norm.weight"])
