"""Forward passes that are made ready for each batch size before they are called: captured as a graph, or compiled.

CUDAGraph and NPUGraph have the same interface, so there is one code path for both.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ivit_helpers.device.device import Device, is_out_of_memory
from ivit_helpers.errors import Unavailable, describe_error

WARM_UPS = 3
"""Calls on a side stream before a capture, so that nothing is loaded or allocated for the first time within it (as torch's own examples)"""
MOST_SIZES = 64
"""Batch sizes that are compiled; torch's own limit of 8 would run the ninth as it is, without a word"""


class Prepared:
    """A forward pass that is made ready once for each shape of a batch."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.prepared_s: dict[torch.Size, float] = {}
        """Seconds that it took, by the shape of the batch"""

    def prepare(self, batch: Tensor) -> None:
        """Make ready for this shape, unless it is. Raises RuntimeError, or Unavailable where it cannot be done here at all."""
        if batch.shape in self.prepared_s:
            return
        self.device.synchronize()
        began = time.perf_counter()
        self._prepare(batch)
        self.device.synchronize()
        self.prepared_s[batch.shape] = time.perf_counter() - began

    def __call__(self, batch: Tensor) -> Tensor:
        """The forward pass of a batch, made ready if it is not."""
        self.prepare(batch)
        return self._run(batch)

    def _prepare(self, batch: Tensor) -> None:
        raise NotImplementedError

    def _run(self, batch: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class _Captured:
    """One graph, and the memory that it reads and writes. Both tensors must live as long as it."""

    graph: Any
    given: Tensor
    result: Tensor

    def __call__(self, batch: Tensor) -> Tensor:
        self.given.copy_(batch)
        self.graph.replay()
        return self.result


class Graphed(Prepared):
    """A forward pass whose launches are captured once for each batch size and replayed as one. All captures share one memory pool.

    A result is the graph's own memory: the next call of this object may overwrite it. Raises Unavailable on a device without graphs.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], device: Device) -> None:
        super().__init__(device)
        reason = device.why_no_graphs()
        if reason:
            raise Unavailable(reason)
        self._forward = forward
        self._module = torch.get_device_module(device.torch_device)
        self._side = self._module.Stream()
        self._captured: dict[torch.Size, _Captured] = {}

    def _prepare(self, batch: Tensor) -> None:
        if (
            not self._captured
        ):  # a pool is gone with its last graph: after a capture that failed it cannot be used again
            self._pool = self._module.graph_pool_handle()
        captured = self._capture(torch.zeros_like(batch))
        found, expected = captured(batch), self._forward(batch)
        if not torch.equal(found, expected):
            raise RuntimeError("the replayed graph gives other numbers than the network that was captured")
        self._captured[batch.shape] = captured

    def _run(self, batch: Tensor) -> Tensor:
        return self._captured[batch.shape](batch)

    def _capture(self, given: Tensor) -> _Captured:
        before, graph = self._module.current_stream(), self.device.new_graph()
        try:
            self._side.wait_stream(before)
            with self._module.stream(self._side):
                for _ in range(WARM_UPS):
                    self._forward(given)
            before.wait_stream(self._side)
            with self._module.graph(graph, pool=self._pool, stream=self._side):
                result = self._forward(given)
        except (RuntimeError, NotImplementedError) as error:
            # torch_npu leaves the side stream current when it cannot end a capture, and that error hides the one that mattered.
            self._module.set_stream(before)
            self._side = self._module.Stream()
            raise _first_cause(error) from None
        return _Captured(graph, given, result)


def _first_cause(error: BaseException) -> BaseException:
    while error.__context__ is not None:
        error = error.__context__
    return error


class Compiled(Prepared):
    """torch.compile of a network for fixed shapes, as one graph without breaks. Raises Unavailable where it does not compile."""

    def __init__(self, network: torch.nn.Module, device: Device) -> None:
        super().__init__(device)
        self._compiled = torch.compile(network, dynamic=False, fullgraph=True, backend=device.compile_backend())

    def _prepare(self, batch: Tensor) -> None:
        try:
            with torch._dynamo.config.patch(recompile_limit=MOST_SIZES):
                self._compiled(batch)
        except Exception as error:  # a compiler raises whatever it likes
            if is_out_of_memory(error):
                raise
            reason = (
                describe_error(getattr(error, "inner_exception", error)).partition(" Skipped frames")[0].rstrip(".:")
            )
            raise Unavailable(f"torch.compile does not compile this network here ({reason})") from error

    def _run(self, batch: Tensor) -> Tensor:
        result: Tensor = self._compiled(batch)
        return result


@contextmanager
def replays(device: Device) -> Iterator[list[object]]:
    """Collect every graph that is replayed in here, whoever replays it; no dispatcher sees a replay."""
    replayed: list[object] = []
    kind = device.graph_type()
    if kind is None:
        yield replayed
        return
    replay = kind.replay

    def counted(graph: Any) -> None:
        replayed.append(graph)
        replay(graph)

    kind.replay = counted
    try:
        yield replayed
    finally:
        kind.replay = replay
