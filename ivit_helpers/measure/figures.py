"""Figures that several notebooks show: errors after each block, and what patch tokens have in common."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from ivit_helpers.report.figure import Figure, draw
from ivit_helpers.report.theme import Theme


def ours_and_theirs(axes: Axes, theme: Theme, first: int, ours: Sequence[float], theirs: Sequence[float]) -> None:
    """Two lines of relative errors; hollow markers, so that the one below shows where they agree."""
    blocks = range(first, first + len(ours))
    mine, other = theme.series[:2]
    axes.plot(blocks, ours, "-", marker="o", markersize=3, color=mine, label="this network, this device")
    axes.plot(
        blocks, theirs, "--", marker="s", markersize=6, mfc="none", linewidth=1, color=other, label="transformers, CPU"
    )
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("relative error")


def layer_errors(ours: Sequence[float], theirs: Sequence[float], dtype: str) -> Figure:
    """Relative error against the reference after every block, beside transformers' own."""

    def plot(axes: Axes, theme: Theme) -> None:
        ours_and_theirs(axes, theme, 0, ours, theirs)
        axes.set_xlabel("after block (0: embeddings)")

    alt = f"Relative error in {dtype} after the last block: {ours[-1]:.2e} here, {theirs[-1]:.2e} for transformers on the CPU."
    return draw(plot, f"Error after each block, accumulated ({dtype})", alt)


def patch_components(patches: Tensor, grid: int) -> Image.Image:
    """The three principal components of the patch tokens (P, C) of one image as red, green and blue: `grid` by `grid` pixels.

    Patches that the network describes alike get like colours, so objects and background come apart in a working network. A
    component's sign is free; here its largest value is positive, so that the same tokens always have the same colours.
    """
    wide = torch.nan_to_num(
        patches.cpu().double(), nan=0.0, posinf=0.0, neginf=0.0
    )  # a check says that they are not finite
    wide = wide - wide.mean(dim=0)
    if wide.shape[0] <= wide.shape[1]:  # the eigenvectors of the smaller of the two square products
        strengths, vectors = torch.linalg.eigh(wide @ wide.T)
        components = vectors[:, -3:] * strengths[-3:].clamp(min=0).sqrt()
    else:
        components = wide @ torch.linalg.eigh(wide.T @ wide).eigenvectors[:, -3:]
    components = F.pad(components.flip(-1), (0, 3 - components.shape[-1]))
    largest = components.gather(0, components.abs().argmax(dim=0, keepdim=True))
    values = (components * torch.where(largest < 0, -1.0, 1.0)).reshape(grid, grid, 3).numpy()
    low, high = np.percentile(values, [2, 98], axis=(0, 1))
    colours = np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1)
    return Image.fromarray((255 * colours).astype(np.uint8))
