"""Figures of a smoke run."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from ivit_helpers.report import Figure, Theme, draw


def _ours_and_theirs(axes: Axes, theme: Theme, first: int, ours: Sequence[float], theirs: Sequence[float]) -> None:
    """Two lines of relative errors; hollow markers, so that the one below shows where they agree."""
    blocks = range(first, first + len(ours))
    mine, other = theme.series[:2]
    axes.plot(blocks, ours, "-", marker="o", markersize=3, color=mine, label="this network, this device")
    axes.plot(blocks, theirs, "--", marker="s", markersize=6, mfc="none", linewidth=1, color=other, label="transformers, CPU")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("relative error")


def layer_errors(ours: Sequence[float], theirs: Sequence[float], dtype: str) -> Figure:
    """Relative error against the reference after every block, beside transformers' own."""

    def plot(axes: Axes, theme: Theme) -> None:
        _ours_and_theirs(axes, theme, 0, ours, theirs)
        axes.set_xlabel("after block (0: embeddings)")

    alt = f"Relative error in {dtype} after the last block: {ours[-1]:.2e} here, {theirs[-1]:.2e} for transformers on the CPU."
    return draw(plot, f"Error after each block, accumulated ({dtype})", alt)


def block_errors(ours: Sequence[float], theirs: Sequence[float], allowed: Sequence[float]) -> Figure:
    """Relative error of each block's update, computed alone in float32, with what is accepted."""

    def plot(axes: Axes, theme: Theme) -> None:
        _ours_and_theirs(axes, theme, 1, ours, theirs)
        axes.plot(range(1, len(allowed) + 1), allowed, ":", color=theme.ink, label="accepted up to here")
        axes.set_xlabel("block")

    alt = f"Relative error in float32: at most {max(ours):.2e} here, {max(theirs):.2e} for transformers on the CPU."
    return draw(plot, "Error of each block alone, in float32", alt)


def patch_components(hidden: Tensor, grid: int, side: int) -> Image.Image:
    """The three principal components of the patch tokens (N, C) of one image as red, green and blue, `side` pixels wide.

    Patches that the network describes alike get like colours, so objects and background come apart in a working network.
    """
    patches = hidden[1:].float().cpu()
    patches = patches - patches.mean(dim=0)
    directions = torch.linalg.svd(patches, full_matrices=False).Vh[:3]
    components = (patches @ directions.T).reshape(grid, grid, 3).numpy()
    low, high = np.percentile(components, [2, 98], axis=(0, 1))
    colours = np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1)
    return Image.fromarray((255 * colours).astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
