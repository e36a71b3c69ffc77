"""The questions of the benchmark notebook: which implementations are right, how fast they are, how they compare."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import accumulate

import pandas as pd

from ivit_helpers.benchmark import launches
from ivit_helpers.benchmark.around import joules_per_image, transfer, transfer_table
from ivit_helpers.benchmark.ceilings import Ceilings
from ivit_helpers.benchmark.compliance import DISTINCT, check_compliance, examine
from ivit_helpers.benchmark.frontier import LONGEST_CALL_S, frontier, swept_sizes
from ivit_helpers.benchmark.implementations import BASELINE
from ivit_helpers.benchmark.products import Products
from ivit_helpers.benchmark.ratios import ratio
from ivit_helpers.device.device import dtype_name
from ivit_helpers.device.several import agreed
from ivit_helpers.errors import Unavailable
from ivit_helpers.measure.conditions import watched
from ivit_helpers.measure.fidelity import Agreement, reference_states
from ivit_helpers.measure.samples import AGREEMENT, interval_in_words
from ivit_helpers.measure.timing import MOST_WINDOWS, WINDOWS, Forward, Series, pixel_batch, sweep
from ivit_helpers.record.parameters import BenchmarkParameters
from ivit_helpers.record.record import BenchmarkRecord, best
from ivit_helpers.record.rows import BenchmarkRow
from ivit_helpers.record.run import Run
from ivit_helpers.report.figure import Together
from ivit_helpers.report.table import Facts, Table, facts
from ivit_helpers.weights.loading import Loaded

PRODUCTS = "products"
"""The name of the network's own products alone among what is timed"""
NAMED = 2  # of several unsteady configurations
Judgement = Agreement | str | Unavailable
Judged = Mapping[str, Judgement]
"""By implementation: its agreement with the reference, why it could not run, or why it cannot run here at all"""


def check_inputs(asked: BenchmarkParameters) -> None:
    """Raise InputError where `devices` and `device` contradict each other. Asks no driver."""
    if asked.devices:
        agreed(asked.devices, asked.device)


def begin(run: Run[BenchmarkRecord], loaded: Loaded) -> Facts:
    """Record the model and what limits the result."""
    run.note(model=loaded.facts(), caveats=loaded.caveats())
    return facts(loaded.facts())


def check_agreement(run: Run[BenchmarkRecord], forwards: Mapping[str, Forward], loaded: Loaded) -> Judged:
    """Compare every implementation with the reference on one image. One that disagrees or fails, fails its check."""
    pixels = pixel_batch(loaded, 1)
    expected = reference_states(loaded.network, pixels, loaded.dtype)
    judged: dict[str, Judgement] = {}
    for name, forward in forwards.items():
        try:
            with loaded.device.inference():
                judged[name] = expected.agreement(forward(pixels))
        except Unavailable as reason:
            judged[name] = reason
        except (RuntimeError, NotImplementedError) as error:
            judged[name] = loaded.device.explain(error)
        outcome = None if isinstance(judged[name], Unavailable) else _passed(judged[name])
        run.check(f"{name} agrees with the reference", outcome, str(judged[name]))
    return judged


def agreement_table(judged: Judged) -> Table:
    """The error of each implementation and what is accepted."""
    return Table([{"implementation": name, "result": str(judgement)} for name, judgement in judged.items()])


def measure(
    run: Run[BenchmarkRecord],
    forwards: Mapping[str, Forward],
    judged: Judged,
    loaded: Loaded,
    asked: BenchmarkParameters,
    limits: Ceilings,
) -> list[BenchmarkRow]:
    """Sweep the batch sizes over the implementations that agree with the reference; the others stay as rows with the reason."""
    allowed = {name: forward for name, forward in forwards.items() if _passed(judged[name])}
    sizes = _batch_sizes(run, allowed, loaded, asked)
    beside: dict[str, Forward] = {PRODUCTS: Products(loaded.network)} if allowed else {}
    with watched(loaded.device) as watch:
        timed = sweep(
            allowed | beside, lambda size: pixel_batch(loaded, size), sizes, loaded.device,
            warmup=asked.warmup, repeats=asked.repeats, seconds=asked.seconds,
        )  # fmt: skip
    products = {one.batch_size: one for one in timed if one.implementation == PRODUCTS}
    series = [one for one in timed if one.implementation != PRODUCTS]
    series += [
        Series(
            name, size, error="" if isinstance(judged[name], Unavailable) else f"refused before timing: {judged[name]}"
        )
        for size in sizes
        for name in forwards
        if name not in allowed
    ]
    series.sort(key=lambda one: (one.batch_size, list(forwards).index(one.implementation)))
    alone = [one.row(dtype_name(loaded.dtype), loaded.network.config.flops_per_image) for one in products.values()]
    best_products = max((row.tflops for row in alone if row.tflops), default=None)
    run.note(products=alone, limits=limits.limits(best_products))
    rows = [_row(one, series, products, loaded, judged[one.implementation]) for one in series]
    for row in rows:
        row.bound_images_per_s = limits.bound(row.batch_size, best_products)
        row.share_of_bound = row.images_per_s and row.images_per_s / row.bound_images_per_s
        row.share_of_vendor_peak = row.tflops / limits.vendor if row.tflops and limits.vendor else None
    launches.count(rows, allowed, loaded)
    _keep(run, rows)
    _check_speeds(run, rows)
    launches.check_waiting(run, rows)
    run.note(conditions=watch.conditions)
    quiet = watch.is_quiet or not loaded.device.uses_host_memory  # only a CPU shares its cores with them
    run.check("the machine was quiet", quiet or None, str(watch), deciding=loaded.device.uses_host_memory)
    return rows


def _batch_sizes(
    run: Run[BenchmarkRecord], allowed: Mapping[str, Forward], loaded: Loaded, asked: BenchmarkParameters
) -> Sequence[int]:
    """The batch sizes to measure: as asked for, or up to the largest batch that fits with the first implementation."""
    if asked.batch_sizes != "auto":
        return asked.batch_sizes
    if not allowed:
        return [1]
    window = asked.seconds / WINDOWS  # on a CPU, time ends before memory does
    longest_s = window if loaded.device.uses_host_memory else LONGEST_CALL_S
    found = frontier(next(iter(allowed.values())), lambda size: pixel_batch(loaded, size), loaded.device, longest_s)
    run.note(frontier=found)
    return swept_sizes(found) or [1]


def _keep(run: Run[BenchmarkRecord], rows: Sequence[BenchmarkRow]) -> None:
    run.note(rows=rows)
    run.table("rows", pd.json_normalize([row.model_dump(exclude={"samples_ms", "windows"}) for row in rows]))
    samples = [
        (row.implementation, row.batch_size, call, sample)
        for row in rows
        for call, sample in enumerate(row.samples_ms, 1)
    ]
    kept = {row.batch_size: row.kept_bytes for row in rows if row.kept_bytes}
    if kept:
        run.caveat(
            f"Memory was not given back: {', '.join(f'{size / 2**20:.1f} MiB after batch {batch}' for batch, size in kept.items())}."
        )
    run.table("samples", pd.DataFrame(samples, columns=["implementation", "batch_size", "call", "milliseconds"]))


def _check_speeds(run: Run[BenchmarkRecord], rows: Sequence[BenchmarkRow]) -> None:
    failed = [f"{row.implementation} at batch {row.batch_size}: {row.error}" for row in rows if row.error]
    run.check("every configuration ran", not failed, "; ".join(failed) or f"{len(rows)} configurations")
    measured = [row for row in rows if row.was_measured]
    unsteady = [
        f"{row.implementation} at batch {row.batch_size} ({_windows(row)})" for row in measured if not row.steady
    ]
    within = f"within {AGREEMENT:.0%} in throughput and median latency"
    detail = f"the last {WINDOWS} windows of every configuration agree {within}"
    if unsteady:
        some = "; ".join(unsteady[:NAMED]) + (f" and {len(unsteady) - NAMED} more" if len(unsteady) > NAMED else "")
        detail = f"the timing of {len(unsteady)} of {len(measured)} configurations did not settle {within} in {MOST_WINDOWS} windows: {some}"
    run.check("timings are steady", None if unsteady or best(rows) is None else True, detail, deciding=True)
    shares = [row.share_of_vendor_peak for row in rows if row.share_of_vendor_peak]
    if shares:
        detail = f"at most {max(shares):.1%} of the vendor's peak; over 100 % would mean that the clock is wrong"
        run.check("utilisation is possible", max(shares) <= 1, detail)


def trust(
    run: Run[BenchmarkRecord], forwards: Mapping[str, Forward], rows: Sequence[BenchmarkRow], loaded: Loaded
) -> Together:
    """Was the network really computed, and what is around the computation? Of the implementation that is reported on."""
    row = best(rows)
    if row is None:
        return Together(check_compliance(run, None))
    forward, device = forwards[row.implementation], loaded.device
    batches, other = (
        [pixel_batch(loaded, row.batch_size, seed + number) for number in range(DISTINCT)] for seed in (0, 1000)
    )
    answered = check_compliance(run, examine(forward, batches, other, device))
    found = []
    for size in sorted(
        {one.batch_size for one in rows if one.was_measured and one.implementation == row.implementation}
    ):
        pixels = pixel_batch(loaded, size)
        copied = transfer(forward, pixels, device)
        if copied:
            found.append(copied.model_copy(update={"joules_per_image": joules_per_image(forward, pixels, device)}))
    run.note(transfers=found)
    return Together(answered, transfer_table(found))


def _windows(row: BenchmarkRow) -> str:
    """The throughput of the last windows, in words."""
    ends = list(accumulate(row.windows))
    means = [statistics.fmean(row.samples_ms[end - count : end]) for end, count in zip(ends, row.windows, strict=True)]
    return ", ".join(f"{1e3 * row.batch_size / mean:.3g}" for mean in means[-WINDOWS:]) + " images/s"


def _passed(judgement: Judgement) -> bool:
    return isinstance(judgement, Agreement) and judgement.passed


def _row(
    one: Series, series: Sequence[Series], products: Mapping[int, Series], loaded: Loaded, judgement: Judgement
) -> BenchmarkRow:
    row = BenchmarkRow(**one.row(dtype_name(loaded.dtype), loaded.network.config.flops_per_image).model_dump())
    if isinstance(judgement, Agreement):
        row.relative_error = judgement.error
    if isinstance(judgement, Unavailable):
        row.unavailable = str(judgement)
    row.kept_bytes = one.kept_bytes
    baseline = next(
        (other for other in series if (other.implementation, other.batch_size) == (BASELINE, one.batch_size)), None
    )
    if one is not baseline:
        row.ratio = ratio(one, baseline)
    row.products = ratio(one, products.get(one.batch_size))
    row.share_of_measured_matmul = row.products.median if row.products else None
    return row


def headline(rows: Sequence[BenchmarkRow]) -> str:
    """The key figure of a sweep in words."""
    row = best(rows)
    if row is None or row.latency_ms is None:
        return "Nothing could be measured"
    how = f"{row.implementation}, {row.dtype}, {row.latency_ms.n} calls"
    speed = f"{row.images_per_s:.2f} images/s ({interval_in_words(row.images_per_s_low, row.images_per_s_high)})"
    share = f", {row.share_of_bound:.0%} of what this device could do at that batch size" if row.share_of_bound else ""
    return f"{speed} at batch {row.batch_size} ({how}){share}{_compared(row)}"


def _compared(row: BenchmarkRow) -> str:
    """The speed relative to the baseline, as the end of a sentence."""
    if row.ratio is None:
        return ""
    within = interval_in_words(row.ratio.low, row.ratio.high)
    if row.ratio.holds_1:
        return f", no difference from {BASELINE} seen ({row.ratio.median:.2f} times as fast, {within})"
    return f", {row.ratio.median:.2f} times as fast as {BASELINE} beside it ({within})"
