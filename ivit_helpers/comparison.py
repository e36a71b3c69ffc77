"""Implementations of one network side by side: which may compete, how fast they are, how they compare."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ivit_helpers import drawing, environment, fidelity, figures, images, published, tables, timing
from ivit_helpers.checkpoint import Loaded
from ivit_helpers.device import dtype_name
from ivit_helpers.errors import told
from ivit_helpers.fidelity import Agreement
from ivit_helpers.kernels import PLAIN
from ivit_helpers.parameters import BenchmarkParameters
from ivit_helpers.record import Run

BASELINE = "transformers"


def implementations(names: Sequence[str], loaded: Loaded) -> dict[str, timing.Forward]:
    """The networks to compare, all over the same tensors: this project's with fused or plain kernels, transformers' own."""
    makers: dict[str, Callable[[], timing.Forward]] = {
        "fused": lambda: loaded.network,
        "plain": lambda: loaded.network.sharing_weights(PLAIN),
        "transformers": lambda: fidelity.Peer(loaded.network),
    }
    return {name: makers[name]() for name in dict.fromkeys(names)}


def pixel_batch(loaded: Loaded, size: int) -> Tensor:
    """`size` synthetic images (size, 3, side, side) on the device, in the network's dtype."""
    pixels = images.synthetic_pixels(size, loaded.network.config.image_size)
    return pixels.to(loaded.device.torch_device, loaded.dtype)


def begin(run: Run, loaded: Loaded) -> tables.Facts:
    """Record the model and say in the verdict what limits the result."""
    described = loaded.described()
    run.note(model=described, caveats=environment.caveats(loaded.device, described))
    return tables.facts(described)


def gate(run: Run, forwards: Mapping[str, timing.Forward], loaded: Loaded) -> dict[str, Agreement | str]:
    """Hold every implementation against the truth on one image; what cannot run is answered with its error."""
    pixels = pixel_batch(loaded, 1)
    expected = fidelity.reference(loaded.network, pixels, loaded.dtype)
    judged: dict[str, Agreement | str] = {}
    for name, forward in forwards.items():
        try:
            with loaded.device.inference():
                judged[name] = fidelity.agreement(forward(pixels), expected)
        except (RuntimeError, NotImplementedError) as error:
            judged[name] = told(error)
        run.check(f"{name} agrees with the truth", _passed(judged[name]), str(judged[name]))
    return judged


def gate_table(judged: Mapping[str, Agreement | str]) -> tables.Table:
    """Each implementation's distance from the truth and what is accepted."""
    return tables.Table([{"implementation": name, "result": str(judgement)} for name, judgement in judged.items()])


@dataclass(frozen=True)
class Ceilings:
    """What the device could do at most, in TFLOP/s."""

    listed: Mapping[str, float]
    """Dense 16-bit peaks by their source; the first is the one that utilisation is counted from"""
    measured: float
    dtype: torch.dtype

    @property
    def vendor(self) -> float | None:
        """None where nobody lists the device, and for float32, whose peak is another."""
        return next(iter(self.listed.values()), None) if self.dtype != torch.float32 else None

    def described(self) -> dict[str, str]:
        peaks = {f"vendor peak, 16 bit ({source})": f"{peak:g} TFLOP/s" for source, peak in self.listed.items()}
        return (peaks or {"vendor peak": "n/a: nobody lists this device"}) | {
            "matrix product measured here": f"{self.measured:.3f} TFLOP/s"
        }


def ceilings(loaded: Loaded) -> Ceilings:
    """The vendor's peaks, and a matrix product measured here and now, which also raises the clock before the sweep."""
    return Ceilings(loaded.device.peak_tflops(), timing.matmul_tflops(loaded.device, loaded.dtype), loaded.dtype)


def measure(
    run: Run,
    forwards: Mapping[str, timing.Forward],
    judged: Mapping[str, Agreement | str],
    loaded: Loaded,
    asked: BenchmarkParameters,
    limits: Ceilings,
) -> list[dict[str, Any]]:
    """Sweep the batch sizes over the implementations that passed the gate; the others stay as rows with the reason.

    Returns the record's rows: one for each batch size and implementation.
    """
    allowed = {name: forward for name, forward in forwards.items() if _passed(judged[name])}
    series = timing.sweep(
        allowed, lambda size: pixel_batch(loaded, size), asked.batch_sizes, loaded.device,
        warmup=asked.warmup, repeats=asked.repeats, seconds=asked.seconds,
    )  # fmt: skip
    dtype = dtype_name(loaded.dtype)
    rows = [_compared(one, series, loaded, dtype, judged[one.implementation], limits) for one in series]
    rows += [
        timing.Series(name, size, error=f"refused before timing: {judged[name]}").row(dtype, 0)
        for size in asked.batch_sizes
        for name in forwards
        if name not in allowed
    ]
    rows.sort(key=lambda row: (row["batch_size"], list(forwards).index(row["implementation"])))
    _keep(run, rows)
    return rows


def _keep(run: Run, rows: list[dict[str, Any]]) -> None:
    run.note(rows=rows)
    run.table("rows", pd.json_normalize([{key: value for key, value in row.items() if key != "samples_ms"} for row in rows]))
    samples = [
        {"implementation": row["implementation"], "batch_size": row["batch_size"], "call": call, "milliseconds": sample}
        for row in rows
        for call, sample in enumerate(row.get("samples_ms", []), 1)
    ]
    run.table("samples", pd.DataFrame(samples, columns=["implementation", "batch_size", "call", "milliseconds"]))
    failed = [f"{row['implementation']} at batch {row['batch_size']}: {row['error']}" for row in rows if row["error"]]
    run.check("every configuration ran", not failed, "; ".join(failed) or f"{len(rows)} configurations")
    shares = [row[key] for row in rows for key in ("share_of_vendor_peak",) if row.get(key)]
    if shares:
        run.check(
            "utilisation is possible", max(shares) <= 1, f"at most {max(shares):.1%} of the vendor's peak; over 100 % is a clock that lies"
        )


def _passed(judgement: Agreement | str) -> bool:
    return isinstance(judgement, Agreement) and judgement.passed


def _compared(
    one: timing.Series, series: Sequence[timing.Series], loaded: Loaded, dtype: str, judgement: Agreement | str, limits: Ceilings
) -> dict[str, Any]:
    row = one.row(dtype, loaded.network.config.flops_per_image)
    if isinstance(judgement, Agreement):
        row["relative_error"] = judgement.error
    if row.get("tflops"):
        row["share_of_vendor_peak"] = row["tflops"] / limits.vendor if limits.vendor else None
        row["share_of_measured_matmul"] = row["tflops"] / limits.measured
    baseline = next((other for other in series if (other.implementation, other.batch_size) == (BASELINE, one.batch_size)), None)
    if baseline and one is not baseline and not one.error and not baseline.error:
        row["ratio"] = _ratio(timing.paired_ratios(one, baseline))
    return row


def _ratio(pairs: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles of the round by round ratios to the baseline."""
    low, median, high = statistics.quantiles(pairs, n=4)
    return {"baseline": BASELINE, "median": median, "low": low, "high": high, "n": len(pairs)}


def best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The fastest row of the first implementation that was measured."""
    measured = [row for row in rows if row.get("images_per_s")]
    first = [row for row in measured if row["implementation"] == measured[0]["implementation"]]
    return max(first, key=lambda row: float(row["images_per_s"]), default=None)


def headline(rows: Sequence[Mapping[str, Any]]) -> str:
    """The key figure of a sweep in words."""
    row = best(rows)
    if row is None:
        return "Nothing could be measured"
    ratio = f", {row['ratio']['median']:.2f} times as fast as {BASELINE} beside it" if row.get("ratio") else ""
    how = f"{row['implementation']}, {row['dtype']}, {row['latency_ms']['n']} calls"
    return f"{row['images_per_s']:.2f} images/s at batch {row['batch_size']} ({how}){ratio}"


def whose_memory(loaded: Loaded) -> str:
    """What the peak memory is a peak of."""
    return "resident in the whole process" if loaded.device.type == "cpu" else "allocated on the card"


def ratio_figure(rows: Sequence[Mapping[str, Any]]) -> list[drawing.Figure]:
    """The comparison with transformers, where it was measured beside the others."""
    return [figures.ratios(rows, BASELINE)] if any(row.get("ratio") for row in rows) else []


def published_table(loaded: Loaded) -> tables.Table:
    """The published figures for exactly this network, with their sources."""
    lines = [
        {"published by others, not measured here": line["label"], "batch": size, "images/s": f"{speed:g}", "source": line["source"]}
        for line in published.speeds(loaded.network.config)
        for size, speed in line["images_per_s"].items()
    ]
    return tables.Table(lines or [{"published figures": "none is known for this network; those for InternViT-6B-224px do not apply to it"}])
