"""One image on two sides: this device, and the CPU or another run. How far apart are they after each block, and where in the image?"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ivit_helpers.device.device import dtype_name
from ivit_helpers.errors import InputError
from ivit_helpers.explore.looking import Looked
from ivit_helpers.explore.pictures import as_map, image_panel, most
from ivit_helpers.explore.saved import Origin, saved_states
from ivit_helpers.measure.fidelity import hidden_states, reference_states
from ivit_helpers.measure.figures import layer_errors
from ivit_helpers.model.kernels import ALLOWED_MULTIPLE, reference_dtype, relative_error
from ivit_helpers.record.rows import ExploreRow
from ivit_helpers.report.figure import Figure, Together, draw
from ivit_helpers.report.panels import Panel, Panels, heat_map, scale_of
from ivit_helpers.report.table import Sentence
from ivit_helpers.report.theme import Theme
from ivit_helpers.weights.loading import Loaded

ADVICE = "the smoke notebook looks for the cause"
Judgement = tuple[bool | None, str]
"""Whether rounding explains the difference (None: that cannot be said), and why"""
ON_THE_CPU = "cpu"
"""The `other` that is computed, and not read from a file"""


@dataclass(frozen=True)
class TwoSides:
    """The differences between two sides, for one image."""

    looked: Looked
    dtype: str
    other: str
    """The other side, in words"""
    differences: tuple[float, ...]
    """After the embeddings and after every block: root mean square of the difference over that of the other side"""
    peer: tuple[float, ...] | None
    """The same of transformers' network on the CPU; None where that is not known"""
    tokens: Tensor
    """(L + 1, N): the length of each token's difference over the root mean square length of a token"""
    judgement: Judgement
    finite: int
    values: int
    states: tuple[Tensor, ...]
    """Of this device, on the CPU; empty once nobody needs them"""

    def rows(self) -> list[ExploreRow]:
        """For the record."""
        return [
            ExploreRow(
                block=block,
                difference=difference,
                transformers=self.peer[block] if self.peer else None,
                class_token=float(self.tokens[block, 0]),
                largest=float(self.tokens[block, 1:].max()),
                largest_at=int(self.tokens[block, 1:].argmax()) + 1,
            )
            for block, difference in enumerate(self.differences)
        ]

    def shown(self) -> Together:
        """Whether they agree, in one sentence, and the differences block by block."""
        passed, detail = self.judgement
        words = {True: "agree", False: "do not agree", None: "are not judged"}[passed]
        return Together(Sentence(f"{self.looked.name}: this device and {self.other} {words}: {detail}."), self.figure())

    def figure(self) -> Figure:
        """The differences, block by block."""
        if self.peer:
            return layer_errors(self.differences, self.peer, self.dtype)

        def plot(axes: Axes, theme: Theme) -> None:
            axes.plot(
                range(len(self.differences)),
                self.differences,
                "-",
                marker="o",
                markersize=3,
                color=theme.series[0],
                label="difference",
            )
            if any(value > 0 for value in self.differences):  # equal states have no place on a logarithmic axis
                axes.set_yscale("log")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlabel("after block (0: embeddings)")
            axes.set_ylabel("relative difference")

        alt = f"Relative difference after the last block: {self.differences[-1]:.2e}."
        return draw(plot, f"Difference from {self.other}, after each block", alt)

    def where(self, block: int, grid: int) -> Together:
        """Where in the image the sides differ after a block."""
        values = as_map(self.tokens[block, 1:])
        largest = float(torch.nan_to_num(self.tokens[block, 1:], posinf=0.0).max())
        words = most(values, f"the largest difference of a patch, {largest:.1e}, is")
        after = f"block {block}" if block else "the embeddings"
        caption = f"Difference of each patch after {after}, relative to the root mean square of the other side's tokens"
        return Together(
            Sentence(f"After {after}, {words}; the class token's is {float(self.tokens[block, 0]):.1e}."),
            Panels(
                [
                    image_panel(self.looked, grid, None),
                    Panel(
                        heat_map(values, 0.0, largest, f"difference after {after}: {words}"),
                        caption,
                        scale_of(0.0, largest),
                    ),
                ]
            ),
        )


def compare(loaded: Loaded, looked: Looked, other: str) -> TwoSides:
    """Compute an image here and take it from the other side: the reference on the CPU, or a file. Raises InputError."""
    try:
        found = hidden_states(loaded.network, looked.pixels, loaded.device)
        if other == ON_THE_CPU:
            expected = reference_states(loaded.network, looked.pixels, loaded.dtype)
            agreement = expected.agreement(found[-1])
            name = f"the CPU in {dtype_name(reference_dtype(loaded.dtype))}"
            peer = differences(expected.peer, expected.exact)
            return _two_sides(loaded, looked, name, (found, expected.exact), (agreement.passed, str(agreement)), peer)
    except (RuntimeError, NotImplementedError) as error:
        raise InputError(f"The forward pass fails on this device: {loaded.device.explain(error)}; {ADVICE}.") from None
    origin, theirs = saved_states(other, looked, loaded.network.config)
    judgement = judged(differences(found[-1:], theirs[-1:])[0], origin, loaded.dtype)
    return _two_sides(loaded, looked, origin.in_words(), (found, theirs), judgement)


def judged(difference: float, origin: Origin, dtype: torch.dtype) -> Judgement:
    """Whether rounding explains a difference from another run, and why.

    Each side may be a multiple of transformers' error away from the reference, so both sides may be twice that apart.
    """
    words = f"relative difference {difference:.2e} after the last block"
    if not origin.peer_errors:
        return (
            None,
            f"{words}; the other run was not compared with the reference (other=cpu), so rounding there is not known",
        )
    if origin.dtype != dtype_name(dtype):
        return (
            None,
            f"{words}; the other run is in {origin.dtype} and this one in {dtype_name(dtype)}, which round differently",
        )
    allowed = 2 * ALLOWED_MULTIPLE[dtype] * origin.peer_errors[-1]
    return difference <= allowed, f"{words}; rounding on both sides explains up to {allowed:.2e}"  # never true for nan


def _two_sides(
    loaded: Loaded,
    looked: Looked,
    other: str,
    states: tuple[Sequence[Tensor], Sequence[Tensor]],
    judgement: Judgement,
    peer: tuple[float, ...] | None = None,
) -> TwoSides:
    here, there = states
    return TwoSides(
        looked=looked,
        dtype=dtype_name(loaded.dtype),
        other=other,
        differences=differences(here, there),
        peer=peer,
        tokens=torch.stack([token_differences(one[0], two[0]) for one, two in zip(here, there, strict=True)]),
        judgement=judgement,
        finite=sum(int(state.isfinite().sum()) for state in here),
        values=sum(state.numel() for state in here),
        states=tuple(here),
    )


def differences(here: Sequence[Tensor], there: Sequence[Tensor]) -> tuple[float, ...]:
    """Root mean square of each difference over that of `there`, in float64."""
    return tuple(relative_error(one, two.double()) for one, two in zip(here, there, strict=True))


def token_differences(here: Tensor, there: Tensor) -> Tensor:
    """The length of each token's difference (N,) in float64, over the root mean square length of a token of `there`, (N, C)."""
    wide = there.double()
    relative: Tensor = (here.double() - wide).norm(dim=-1) / wide.norm(dim=-1).square().mean().sqrt()
    return relative
