"""The questions of the benchmark notebook: which implementations are right, how fast they are, how they compare."""

import statistics
from collections.abc import Mapping, Sequence

import pandas as pd

from ivit_helpers.benchmark import figures
from ivit_helpers.benchmark.ceilings import Ceilings
from ivit_helpers.benchmark.implementations import BASELINE
from ivit_helpers.device import dtype_name
from ivit_helpers.measure import Agreement, Forward, Series, paired_ratios, pixel_batch, reference_states, sweep
from ivit_helpers.model import published_speeds
from ivit_helpers.record import BenchmarkParameters, BenchmarkRecord, BenchmarkRow, Ratio, Run
from ivit_helpers.report import Facts, SideBySide, Table, facts
from ivit_helpers.weights import Loaded

Judged = Mapping[str, Agreement | str]
"""By implementation: its agreement with the reference, or why it could not run"""


def check_inputs(asked: BenchmarkParameters) -> None:
    """Nothing here names a file; as in every wing of a notebook."""


def begin(run: Run[BenchmarkRecord], loaded: Loaded) -> Facts:
    """Record the model and what limits the result."""
    run.note(model=loaded.facts(), caveats=loaded.caveats())
    return facts(loaded.facts())


def check_agreement(run: Run[BenchmarkRecord], forwards: Mapping[str, Forward], loaded: Loaded) -> Judged:
    """Compare every implementation with the reference on one image. One that disagrees or cannot run fails its check."""
    pixels = pixel_batch(loaded, 1)
    expected = reference_states(loaded.network, pixels, loaded.dtype)
    judged: dict[str, Agreement | str] = {}
    for name, forward in forwards.items():
        try:
            with loaded.device.inference():
                judged[name] = expected.agreement(forward(pixels))
        except (RuntimeError, NotImplementedError) as error:
            judged[name] = loaded.device.explain(error)
        run.check(f"{name} agrees with the reference", _passed(judged[name]), str(judged[name]))
    return judged


def agreement_table(judged: Judged) -> Table:
    """The error of each implementation and what is accepted."""
    return Table([{"implementation": name, "result": str(judgement)} for name, judgement in judged.items()])


def measure(
    run: Run[BenchmarkRecord], forwards: Mapping[str, Forward], judged: Judged, loaded: Loaded, asked: BenchmarkParameters, limits: Ceilings
) -> list[BenchmarkRow]:
    """Sweep the batch sizes over the implementations that agree with the reference; the others stay as rows with the reason."""
    allowed = {name: forward for name, forward in forwards.items() if _passed(judged[name])}
    series = sweep(
        allowed, lambda size: pixel_batch(loaded, size), asked.batch_sizes, loaded.device,
        warmup=asked.warmup, repeats=asked.repeats, seconds=asked.seconds,
    )  # fmt: skip
    series += [
        Series(name, size, error=f"refused before timing: {judged[name]}")
        for size in asked.batch_sizes
        for name in forwards
        if name not in allowed
    ]
    series.sort(key=lambda one: (one.batch_size, list(forwards).index(one.implementation)))
    rows = [_row(one, series, loaded, judged[one.implementation], limits) for one in series]
    _keep(run, rows)
    return rows


def _keep(run: Run[BenchmarkRecord], rows: Sequence[BenchmarkRow]) -> None:
    run.note(rows=rows)
    run.table("rows", pd.json_normalize([row.model_dump(exclude={"samples_ms"}) for row in rows]))
    samples = [(row.implementation, row.batch_size, call, sample) for row in rows for call, sample in enumerate(row.samples_ms, 1)]
    run.table("samples", pd.DataFrame(samples, columns=["implementation", "batch_size", "call", "milliseconds"]))
    failed = [f"{row.implementation} at batch {row.batch_size}: {row.error}" for row in rows if row.error]
    run.check("every configuration ran", not failed, "; ".join(failed) or f"{len(rows)} configurations")
    shares = [row.share_of_vendor_peak for row in rows if row.share_of_vendor_peak]
    if shares:
        detail = f"at most {max(shares):.1%} of the vendor's peak; over 100 % would mean that the clock is wrong"
        run.check("utilisation is possible", max(shares) <= 1, detail)


def _passed(judgement: Agreement | str) -> bool:
    return isinstance(judgement, Agreement) and judgement.passed


def _row(one: Series, series: Sequence[Series], loaded: Loaded, judgement: Agreement | str, limits: Ceilings) -> BenchmarkRow:
    row = BenchmarkRow(**one.row(dtype_name(loaded.dtype), loaded.network.config.flops_per_image).model_dump())
    if isinstance(judgement, Agreement):
        row.relative_error = judgement.error
    if row.tflops:
        row.share_of_vendor_peak = row.tflops / limits.vendor if limits.vendor else None
        row.share_of_measured_matmul = row.tflops / limits.measured
    baseline = next((other for other in series if (other.implementation, other.batch_size) == (BASELINE, one.batch_size)), None)
    if baseline and one is not baseline and not one.error and not baseline.error:
        row.ratio = _ratio(paired_ratios(one, baseline))
    return row


def _ratio(pairs: Sequence[float]) -> Ratio:
    """Median and quartiles of the round by round ratios to the baseline."""
    low, median, high = statistics.quantiles(pairs, n=4)
    return Ratio(baseline=BASELINE, median=median, low=low, high=high, n=len(pairs))


def best(rows: Sequence[BenchmarkRow]) -> BenchmarkRow | None:
    """The fastest row of the first implementation that was measured."""
    measured = [row for row in rows if row.was_measured]
    first = [row for row in measured if row.implementation == measured[0].implementation]
    return max(first, key=lambda row: row.images_per_s or 0, default=None)


def headline(rows: Sequence[BenchmarkRow]) -> str:
    """The key figure of a sweep in words."""
    row = best(rows)
    if row is None or row.latency_ms is None:
        return "Nothing could be measured"
    ratio = f", {row.ratio.median:.2f} times as fast as {BASELINE} beside it" if row.ratio else ""
    how = f"{row.implementation}, {row.dtype}, {row.latency_ms.n} calls"
    return f"{row.images_per_s:.2f} images/s at batch {row.batch_size} ({how}){ratio}"


def speed_figures(rows: Sequence[BenchmarkRow], loaded: Loaded) -> SideBySide:
    """Throughput, beside what is published for the same network, and every timed call."""
    return SideBySide(figures.throughput(rows, published_speeds(loaded.network.config)), figures.latency(rows))


def memory_and_ratio_figures(rows: Sequence[BenchmarkRow], loaded: Loaded) -> SideBySide:
    """Peak memory, and the speed relative to transformers where that was measured beside the others."""
    shown = [figures.memory(rows, loaded.device.total_memory(), loaded.device.memory_measured)]
    return SideBySide(*shown, *([figures.ratios(rows, BASELINE)] if any(row.ratio for row in rows) else []))


def published_table(loaded: Loaded) -> Table:
    """The published figures for exactly this network, with their sources."""
    lines = [
        {"published by others, not measured here": line["label"], "batch": size, "images/s": f"{speed:g}", "source": line["source"]}
        for line in published_speeds(loaded.network.config)
        for size, speed in line["images_per_s"].items()
    ]
    return Table(lines or [{"published figures": "none is known for this network; those for InternViT-6B-224px do not apply to it"}])
