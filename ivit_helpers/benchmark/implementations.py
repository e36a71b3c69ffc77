"""The networks that a benchmark compares, all over the same tensors."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ivit_helpers.device.graphs import Compiled, Graphed
from ivit_helpers.errors import Unavailable
from ivit_helpers.measure.peer import Peer
from ivit_helpers.measure.timing import Forward
from ivit_helpers.model.kernels import PLAIN
from ivit_helpers.weights.loading import Loaded

BASELINE = "transformers-sdpa"
IMPLEMENTATIONS: Mapping[str, Callable[[Loaded], Forward]] = {
    "fused": lambda loaded: loaded.network,
    "graph": lambda loaded: Graphed(loaded.network, loaded.device),
    "compile": lambda loaded: Compiled(loaded.network, loaded.device),
    "plain": lambda loaded: loaded.network.sharing_weights(PLAIN),
    "transformers-sdpa": lambda loaded: Peer(loaded.network),
    "transformers-eager": lambda loaded: Peer(loaded.network, "eager"),
    "transformers-compile": lambda loaded: Compiled(Peer(loaded.network), loaded.device),
}


def _built(name: str, loaded: Loaded) -> Forward:
    try:
        return IMPLEMENTATIONS[name](loaded)
    except Unavailable as error:
        reason = str(error)

    def absent(_pixels: Tensor) -> Tensor:
        raise Unavailable(reason)

    return absent


def implementations(names: Sequence[str], loaded: Loaded) -> dict[str, Forward]:
    """The networks of these names. One that the device cannot do raises Unavailable, with the reason, when it is called."""
    return {name: _built(name, loaded) for name in dict.fromkeys(names)}
