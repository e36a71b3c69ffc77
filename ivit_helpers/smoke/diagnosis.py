"""Where a forward pass fails: try what an engineer would try, in order, and say what helped."""

from collections.abc import Sequence

import torch

from ivit_helpers.images.transform import synthetic_pixels
from ivit_helpers.model.kernels import PLAIN
from ivit_helpers.model.network import InternViT
from ivit_helpers.record.rows import Attempt
from ivit_helpers.weights.loading import Loaded

ADVICE = {
    "the same again": "it ran when it was repeated: the failure is not deterministic, look at the card's health and its other users",
    "float32": "run with dtype='float32', and report the failing operator for this dtype to the vendor",
    "one image": "run with a smaller batch_size",
    "plain kernels": "a fused kernel fails here: run the benchmark with implementations=['plain'] and report the operator to the vendor",
}
NOTHING_HELPED = "nothing helped: check the driver, CANN and torch-npu against the README's version table"


def why_it_fails(network: InternViT, loaded: Loaded, batch_size: int) -> str:
    """Why a forward pass fails; empty when it runs."""
    try:
        pixels = synthetic_pixels(batch_size, network.config.image_size).to(loaded.device.torch_device)
        with loaded.device.inference():
            network(pixels)
            loaded.device.synchronize()
    except (RuntimeError, NotImplementedError) as error:
        return loaded.device.explain(error)
    finally:
        loaded.device.release_memory()
    return ""


def _in_float32(loaded: Loaded) -> InternViT | str:
    """A float32 copy of the network, or why there is none."""
    if loaded.dtype == torch.float32:
        return "the run is already in float32"
    needed, free = 4 * loaded.parameters, loaded.device.available_memory()
    if needed > 0.9 * free:
        return f"float32 weights take {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
    with torch.device("meta"):
        wide = InternViT(loaded.network.config, loaded.network.kernels)
    wide.load_state_dict(
        {name: tensor.float() for name, tensor in loaded.network.state_dict().items()}, strict=True, assign=True
    )
    return wide.eval().requires_grad_(False)


def _tried(name: str, network: InternViT | str, loaded: Loaded, batch_size: int) -> Attempt:
    if isinstance(network, str):
        return Attempt(name=name, outcome=f"not tried: {network}", worked=None)
    reason = why_it_fails(network, loaded, batch_size)
    return Attempt(name=name, outcome=reason or "ran", worked=not reason)


def ladder(loaded: Loaded, batch_size: int) -> list[Attempt]:
    """Try again, look at the card, float32, one image, plain kernels; all of them are tried, so that the table shows which ones work."""
    state = ", ".join(f"{name} {value}" for name, value in loaded.device.state().items())
    return [
        _tried("the same again", loaded.network, loaded, batch_size),
        Attempt(name="the card", outcome=state, worked=None),
        _tried("float32", _in_float32(loaded), loaded, batch_size),
        _tried("one image", loaded.network if batch_size > 1 else "the batch is already one image", loaded, 1),
        _tried("plain kernels", loaded.network.sharing_weights(PLAIN), loaded, batch_size),
    ]


def advice(attempts: Sequence[Attempt]) -> str:
    """What to do next, by the first attempt that worked."""
    worked = [attempt.name for attempt in attempts if attempt.worked]
    return ADVICE[worked[0]] if worked else NOTHING_HELPED
