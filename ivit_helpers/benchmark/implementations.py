"""The networks that a benchmark compares, all over the same tensors."""

from collections.abc import Callable, Mapping, Sequence

from ivit_helpers.measure import Forward, Peer
from ivit_helpers.model import PLAIN
from ivit_helpers.weights import Loaded

BASELINE = "transformers"
IMPLEMENTATIONS: Mapping[str, Callable[[Loaded], Forward]] = {
    "fused": lambda loaded: loaded.network,
    "plain": lambda loaded: loaded.network.sharing_weights(PLAIN),
    "transformers": lambda loaded: Peer(loaded.network),
}


def implementations(names: Sequence[str], loaded: Loaded) -> dict[str, Forward]:
    """The networks of these names: this project's with fused or plain kernels, and transformers' own."""
    return {name: IMPLEMENTATIONS[name](loaded) for name in dict.fromkeys(names)}
