"""Hidden states of the images that were looked at, kept on the host, so that a question about a block needs no new forward pass.

A state is kept only where it was asked for, and the ones that were used least recently go where all of them would take more than
`KEPT_BYTES`. One that is missing is computed again from the nearest earlier one. So an answer never takes longer than one forward pass.
"""

from collections import OrderedDict
from collections.abc import Collection

import torch
from torch import Tensor

from ivit_helpers.device.device import Device
from ivit_helpers.errors import InputError
from ivit_helpers.explore.looking import Looked
from ivit_helpers.model.network import Block, InternViT

KEPT_BYTES = 512 * 2**20
"""Of host memory: all 49 states of six images of the 6B network at 224 px (80 MB each in 16 bits), or of one at 448 px (300 MB)"""


class States:
    """The states after the embeddings (block 0) and after each block, of any image."""

    def __init__(self, network: InternViT, device: Device, most: int = KEPT_BYTES) -> None:
        self.network, self.device, self.most = network, device, most
        self._kept: OrderedDict[tuple[str, int], Tensor] = OrderedDict()

    @property
    def bytes(self) -> int:
        """What is kept now."""
        return sum(state.nbytes for state in self._kept.values())

    def all_that_fit(self) -> list[int]:
        """Every block, or as many as can be kept of one image, evenly spaced, the last one among them."""
        config = self.network.config
        last = config.num_hidden_layers
        state_bytes = config.tokens * config.hidden_size * self.network.embeddings.class_embedding.element_size()
        count = max(1, min(last + 1, self.most // state_bytes))
        return sorted({last - round(number * last / max(1, count - 1)) for number in range(count)})

    def ask(self, looked: Looked, blocks: Collection[int]) -> None:
        """Keep the states after these blocks, by at most one forward pass. Raises InputError where the device cannot compute it."""
        missing = {block for block in blocks if (looked.checksum, block) not in self._kept}
        if not missing:
            return
        try:
            with self.device.inference():
                self._compute(looked, missing)
        except (RuntimeError, NotImplementedError) as error:
            advice = "the smoke notebook looks for the cause"
            raise InputError(
                f"The forward pass fails on this device: {self.device.explain(error)}; {advice}."
            ) from None
        finally:
            self._make_room()

    def _compute(self, looked: Looked, wanted: set[int]) -> None:
        before = [block for image, block in self._kept if image == looked.checksum and block < min(wanted)]
        if before:
            reached = max(before)
            hidden = self._kept[looked.checksum, reached].to(self.device.torch_device)
        else:
            reached, hidden = 0, self.network.embeddings(looked.pixels.to(self.device.torch_device))[0]
            self._keep(looked, 0, hidden, wanted)
        for block in range(reached + 1, max(wanted) + 1):
            hidden = self.network.encoder.layers[block - 1](hidden[None])[0]
            self._keep(looked, block, hidden, wanted)

    def _keep(self, looked: Looked, block: int, hidden: Tensor, wanted: set[int]) -> None:
        if block in wanted:
            self._kept[looked.checksum, block] = hidden.cpu()

    def _make_room(self) -> None:
        while len(self._kept) > 1 and self.bytes > self.most:
            self._kept.popitem(last=False)

    def after(self, looked: Looked, block: int) -> Tensor:
        """The hidden state (N, C) after a block, on the CPU, in the network's dtype."""
        key = looked.checksum, block
        if key not in self._kept:
            self.ask(looked, [block])
        self._kept.move_to_end(key)
        return self._kept[key]

    def attention(self, looked: Looked, block: int) -> Tensor:
        """What the class token attends to in a block: (heads, N) in float32, on the CPU. It is computed from the block's input."""
        layer = self.network.encoder.layers[block - 1]
        assert isinstance(layer, Block)
        before = self.after(looked, block - 1)
        with self.device.inference():
            weights: Tensor = layer.attn.class_token_weights(layer.norm1(before.to(self.device.torch_device)[None]))
        return weights[0].cpu()

    def logits(self, looked: Looked, head: torch.nn.Module) -> Tensor:
        """The scores (classes,) that a head gives the image, in float32, on the CPU."""
        last = self.after(looked, self.network.config.num_hidden_layers)
        with self.device.inference():
            scores: Tensor = head(last.to(self.device.torch_device)[None])
        return scores[0].float().cpu()
