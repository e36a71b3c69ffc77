"""How close is each implementation to the products alone, and to transformers? Side by side in one run, with intervals.

    make bench            # or: python tools/bench.py --help

Four blocks of the 6B network with random weights, which is enough: all blocks are alike. Every implementation is checked against the
reference first. The calls are made in turn, and every ratio is of calls of the same round, so a drift of the machine cancels. Quote the
ratios of a quiet machine only; the last line says how quiet it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import click

from ivit_helpers.benchmark.implementations import implementations
from ivit_helpers.benchmark.products import Products
from ivit_helpers.benchmark.ratios import ratio
from ivit_helpers.device.selection import select
from ivit_helpers.errors import Unavailable
from ivit_helpers.measure.conditions import watched
from ivit_helpers.measure.fidelity import reference_states
from ivit_helpers.measure.timing import Forward, Series, pixel_batch, sweep
from ivit_helpers.weights import loading, sources
from ivit_helpers.weights.loading import Loaded

OURS = ("fused", "graph", "compile", "plain")
THEIRS = ("transformers-eager", "transformers-sdpa", "transformers-compile")
ALONE = "products alone"


def sound(loaded: Loaded) -> dict[str, Forward]:
    """The implementations that run here and agree with the reference; says why another one does not."""
    pixels, found = pixel_batch(loaded, 1), {}
    expected = reference_states(loaded.network, pixels, loaded.dtype)
    for name, forward in implementations([*OURS, *THEIRS], loaded).items():
        try:
            with loaded.device.inference():
                agreement = expected.agreement(forward(pixels))
        except Unavailable as reason:
            click.echo(f"{name}: {reason}")
            continue
        if agreement.passed:
            found[name] = forward
        else:
            click.echo(f"{name} disagrees: {agreement}")
    return found


def table(series: Mapping[str, Series]) -> list[str]:
    """A line for each implementation: how many times as fast as each of the others of interest it is."""
    columns = [name for name in (ALONE, *THEIRS) if name in series]
    lines = [f"{'':22}" + "".join(f"{name:>32}" for name in columns)]
    for name, one in series.items():
        if name == ALONE or one.error:
            continue
        found = [ratio(one, series[column]) for column in columns]
        cells = [
            "" if each is None or each.baseline == name else f"{each.median:.3f} ({each.low:.3f} to {each.high:.3f})"
            for each in found
        ]
        lines.append(f"{name:22}" + "".join(f"{cell:>32}" for cell in cells))
    return lines


@click.command()
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default="auto", show_default=True)
@click.option("--layers", default=4, show_default=True)
@click.option("--batch-size", "batch_sizes", multiple=True, default=(1, 8), show_default=True, type=int)
@click.option("--repeats", default=30, show_default=True, help="Least calls of each implementation at each batch size.")
@click.option(
    "--seconds", default=60.0, show_default=True, help="For each implementation, after which fewer calls are enough."
)
def main(device: str, dtype: str, layers: int, batch_sizes: Sequence[int], repeats: int, seconds: float) -> None:
    """Print how many times as fast as others each implementation is: median and 95 % interval over the rounds."""
    found, accelerator = sources.find("random:6b-224"), select(device)
    config = replace(found.config, num_hidden_layers=layers)
    loaded = loading.load(replace(found, config=config), accelerator, accelerator.dtype(dtype))
    click.echo(f"{layers} blocks of width {config.hidden_size}, {dtype}: {loaded.dtype}, {accelerator}")
    forwards = sound(loaded) | {ALONE: Products(loaded.network)}
    for size in batch_sizes:
        with watched(accelerator) as watch:
            measured = sweep(
                forwards, partial(pixel_batch, loaded), [size], accelerator, warmup=2, repeats=repeats, seconds=seconds
            )
        calls = min(sum(map(len, one.windows_s)) for one in measured if not one.error)
        click.echo(f"\nbatch {size}: times as fast as (median of {calls} rounds, 95 % interval)")
        click.echo("\n".join(table({one.implementation: one for one in measured})))
        click.echo(f"{watch}")


if __name__ == "__main__":
    main()
