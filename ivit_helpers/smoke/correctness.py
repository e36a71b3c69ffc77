"""Are the numbers right? The smoke notebook's comparison with the reference, after each block and for each block alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ivit_helpers.device.device import dtype_name
from ivit_helpers.measure.fidelity import ReferenceStates, block_errors, hidden_states, reference_states
from ivit_helpers.measure.figures import layer_errors
from ivit_helpers.model.kernel_check import trusted_kernels
from ivit_helpers.model.kernels import relative_error
from ivit_helpers.record.record import SmokeRecord
from ivit_helpers.record.run import Run
from ivit_helpers.report.figure import Figure
from ivit_helpers.report.table import Table
from ivit_helpers.smoke import figures
from ivit_helpers.weights.loading import Loaded

SmokeRun = Run[SmokeRecord]


@dataclass(frozen=True)
class LayerErrors:
    """Relative error against the reference after the embeddings and after every block."""

    ours: Sequence[float]
    peer: Sequence[float]
    expected: ReferenceStates

    def figure(self) -> Figure:
        return layer_errors(self.ours, self.peer, dtype_name(self.expected.dtype))


def agreement(run: SmokeRun, loaded: Loaded, pixel_values: Tensor) -> LayerErrors:
    """Compare this device's hidden states with the reference, block by block, beside transformers' own rounding on the CPU."""
    expected = reference_states(loaded.network, pixel_values, loaded.dtype)
    found = hidden_states(loaded.network, pixel_values, loaded.device)
    judged = expected.agreement(found[-1])
    run.check("agreement with the reference", judged.passed, str(judged), deciding=True)
    errors = LayerErrors(
        [relative_error(here, exact) for here, exact in zip(found, expected.exact, strict=True)],
        [relative_error(there, exact) for there, exact in zip(expected.peer, expected.exact, strict=True)],
        expected,
    )
    run.extend_row(relative_error=judged.error, layer_errors=errors.ours, layer_errors_transformers=errors.peer)
    return errors


def blocks_alone(run: SmokeRun, loaded: Loaded, expected: ReferenceStates) -> Figure | Table:
    """Compare each block alone, in float32 on this device, with the reference; the check names the worst and every wrong one."""
    name = "each block alone"
    _, verdicts = trusted_kernels(
        loaded.network.config, loaded.device, torch.float32
    )  # a kernel may be right in bfloat16 alone
    plain = [verdict.kernel for verdict in verdicts if verdict.refused]
    try:
        blocks = block_errors(loaded.network, expected, loaded.device, plain)
    except RuntimeError as error:
        check = run.check(
            name, None, f"the device cannot compute a block of this network in float32: {loaded.device.explain(error)}"
        )
        return Table([{name: check.detail}])
    shares = [block.share for block in blocks]
    worst = max(range(len(blocks)), key=shares.__getitem__)
    wrong = [str(number) for number, block in enumerate(blocks, 1) if not block.passed]
    details = [
        f"in float32, the largest error of a block's update is {blocks[worst].error:.1e} (block {worst + 1} of {len(blocks)})",
        f"up to {blocks[worst].allowed:.1e} is accepted",
        *([f"beyond that: block {', '.join(wrong)}"] if wrong else []),
        *(
            [f"computed with plain {', '.join(plain)}: the fused form is wrong in float32, so this check is skipped"]
            if plain
            else []
        ),
    ]
    run.check(name, False if wrong else None if plain else True, "; ".join(details))
    errors = {
        "block_errors": [block.error for block in blocks],
        "block_errors_transformers": [block.peer_error for block in blocks],
        "block_errors_allowed": [block.allowed for block in blocks],
    }
    run.extend_row(**errors)
    return figures.block_errors(*errors.values())
