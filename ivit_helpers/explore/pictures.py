"""What a block does with an image, as pictures: colours of like patches, where the class token looks, what is like one patch."""

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ivit_helpers.explore.looking import Looked, View, at_block, place_of
from ivit_helpers.explore.states import States
from ivit_helpers.measure.figures import patch_components
from ivit_helpers.report.panels import Panel, PanelColumns, Panels, coloured_patches, heat_map, photograph, scale_of

STRIP = 8
"""Blocks of a strip"""
Map = NDArray[np.float64]


def attention_map(weights: Tensor, head: int) -> Map:
    """Attention of the class token (heads, N) to each patch, (grid, grid), as shares of all its attention. head: from 1; 0: the mean."""
    chosen = weights[head - 1] if head else weights.mean(dim=0)
    return as_map(chosen[1:])


def similarity_map(hidden: Tensor, patch: int) -> Map:
    """Cosine of each patch token of a state (N, C) with that of one patch (counted from 0): (grid, grid)."""
    patches = hidden[1:].float()
    return as_map(F.cosine_similarity(patches, patches[patch : patch + 1], dim=-1))


def as_map(values: Tensor) -> Map:
    """One value for each patch, (P,), in the rows and columns of the image."""
    side = round(len(values) ** 0.5)
    return values.double().reshape(side, side).numpy()


def most(values: Map, words: str) -> str:
    """Where a map is largest, in words; `words` says of what."""
    grid = values.shape[1]
    if not np.isfinite(values).any():
        return "no value is finite"
    place = int(np.nanargmax(np.where(np.isfinite(values), values, np.nan)))
    return f"{words} in {place_of(place, grid)}"


def image_panel(looked: Looked, grid: int, patch: int | None) -> Panel:
    """The image as the network gets it, with one patch marked."""
    return Panel(
        photograph(looked.crop, f"{looked.name} as the network gets it", patch, grid),
        f"{looked.name} as the network gets it",
    )


def block_panels(states: States, looked: Looked, view: View, *, brief: bool = False) -> list[Panel]:
    """Components, attention and similarity of one block. brief: with short captions, for a strip."""
    grid = states.network.config.grid
    hidden, weights = states.after(looked, view.block), states.attention(looked, view.block)
    seen, alike = attention_map(weights, view.head), similarity_map(hidden, view.patch)
    brightest, least = np.nanmax(seen, initial=0.0), float(np.nanmin(np.where(np.isfinite(alike), alike, 1.0)))
    attended = f"block {view.block}, {view.head_in_words}: " + most(
        seen, f"the largest share of attention, {100 * brightest:.1f} %,"
    )
    return [
        Panel(
            coloured_patches(
                patch_components(hidden[1:], grid), f"block {view.block}: patch tokens as three principal components"
            ),
            "principal components"
            if brief
            else "Patch tokens after this block: three principal components as red, green, blue",
        ),
        Panel(
            heat_map(seen, 0.0, float(brightest), attended),
            "attention" if brief else f"Attention of the class token, {view.head_in_words}: share of each patch",
            None if brief else ("0", f"{100 * brightest:.2g} %"),
        ),
        Panel(
            heat_map(
                alike, least, 1.0, f"block {view.block}: cosine of each patch with {view.place(grid)}", view.patch
            ),
            "similarity"
            if brief
            else f"Similarity of each patch to the marked one ({view.place(grid)}): cosine after this block",
            None if brief else scale_of(least, 1.0),
        ),
    ]


def view_panels(states: States, looked: Looked, view: View) -> Panels:
    """The image, and beside it everything about one block."""
    return Panels([image_panel(looked, states.network.config.grid, view.patch), *block_panels(states, looked, view)])


def in_words(states: States, looked: Looked, view: View) -> str:
    """What one block attends to, in one sentence."""
    seen = attention_map(states.attention(looked, view.block), view.head)
    where = f"In block {view.block} of {states.network.config.num_hidden_layers}, {view.head_in_words}"
    largest = most(seen, f"{100 * np.nanmax(seen, initial=0.0):.1f} %,")
    return f"{where}: the class token gives {100 * np.nansum(seen):.0f} % of its attention to the patches, and the most, {largest}."


def strip_blocks(blocks: int, chosen: int) -> list[int]:
    """At most STRIP blocks, evenly spaced from the first to the last one, and the chosen one."""
    spaced = (
        {round(1 + number * (blocks - 1) / (STRIP - 1)) for number in range(STRIP)}
        if blocks > STRIP
        else set(range(1, blocks + 1))
    )
    return sorted(spaced | {chosen})


def strip(states: States, looked: Looked, view: View) -> PanelColumns:
    """One image through the blocks."""
    blocks = states.network.config.num_hidden_layers
    chosen = strip_blocks(blocks, view.block)
    states.ask(looked, sorted({*chosen, *(block - 1 for block in chosen)}))
    caption = (
        f"From block to block, {len(chosen)} of {blocks}. Attention is the class token's, {view.head_in_words}, from none to the most of "
        f"that block. Similarity is to the patch in {view.place(states.network.config.grid)}, from the least of that block to 1"
    )
    return PanelColumns(
        {f"block {block}": block_panels(states, looked, at_block(view, block), brief=True) for block in chosen}, caption
    )
