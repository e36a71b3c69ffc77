"""The rows of records: one model for each kind, with the unit and meaning of every field."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Outcome = Literal["scored", "unreadable", "missing", "unlabelled", "nonfinite"]
OUTCOMES: tuple[Outcome, ...] = ("scored", "unreadable", "missing", "unlabelled", "nonfinite")
"""Every image of a set ends in exactly one of these"""


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numpy's and pandas' numbers become Python's, NaN and infinity become null."""
    if isinstance(value, BaseModel):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def waits_for_host(host_ms: float | None, device_ms: float | None) -> bool:
    """Whether a device was idle almost as soon as the last launch had returned; False where that was not measured."""
    return host_ms is not None and device_ms is not None and host_ms >= 0.9 * device_ms


class Part(BaseModel):
    """A part of a record."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _as_json(cls, value: Any) -> Any:
        return plain(value)


class Check(Part):
    """One question with a yes or no answer."""

    name: str
    status: Literal["passed", "failed", "skipped"]
    detail: str
    deciding: bool = Field(False, description="whether it answers the question that the notebook is for")


class Conditions(Part):
    """What else ran on the machine while something was timed."""

    load_before: float | None = Field(description="load average of one minute")
    load_after: float | None
    others_cpu_share: float = Field(description="other processes' share of the time of all cores, 0 to 1")
    card_processes_before: list[str] | None = Field(description="other processes on the card; null: cannot be listed")
    card_processes_after: list[str] | None


class Provenance(Part):
    """Where a run comes from, and how it is repeated."""

    kit: str = Field(description="version of ivit_helpers")
    commit: str | None = Field(description='git commit, with "+changes" where files were changed; null outside git')
    command: str = Field(description="runs the notebook again with the same parameters")
    notebook_sha256: str | None = Field(description="of the code cells; null where the notebook is not there")
    clock: str = Field(description="how times were taken")


class ModelFacts(Part):
    """What was loaded, and what loading took."""

    name: str = Field(description="of the folder or file, or the `model` parameter for random weights")
    parameters: int = Field(description="numbers in all tensors of the network, without the head")
    bytes: int = Field(description="size of those tensors on the device")
    tensors: int
    shards: int = Field(description="weight files; 0 for random weights")
    dtype: str
    flops_per_image: int = Field(description="of the matrix products; a multiply-add counts as two")
    image_size: int = Field(description="pixels of a side")
    hidden_size: int
    layers: int = Field(description="blocks")
    heads: int | None = Field(None, description="attention heads of a block")
    intermediate_size: int | None = Field(None, description="width of a block's MLP")
    patch_size: int | None = Field(None, description="pixels of a side")
    model_type: str | None = Field(None, description="in config.json; null for random weights")
    architectures: list[str] | None = Field(None, description="in config.json; null for random weights")
    head: str = Field(description="kind of the classification head")
    classes: int = Field(description="of the head")
    head_is_trained: bool
    head_file: str | None = None
    head_sha256: str | None = None
    head_is_the_published_one: str | None = None
    load_seconds: float
    load_host_peak_bytes: int | None = Field(None, description="peak resident size of the process while loading")
    kernels: str = Field(description="which kernels the network uses")
    load_device_peak_bytes: int | None = Field(None, description="peak on the card while loading; null on a CPU")
    stored_dtype: str | None = Field(None, description="dtype in the files; null for random weights")
    ignored_tensors: int | None = Field(None, description="tensors in the files that are not this network's")
    sha256: list[str] | None = Field(None, description='"file digest" of each weight file, where verify=true')


class Latency(Part):
    """Milliseconds of a call. A percentile is null where the samples are too few to carry it."""

    p50: float | None
    p90: float | None
    p99: float | None
    mean: float
    n: int = Field(description="timed calls")


class Ratio(Part):
    """How many times as fast as the baseline, from the rounds of one alternating run."""

    baseline: str
    median: float
    low: float = Field(description="lower end of the 95 % interval, by windows and by bootstrap")
    high: float
    n: int = Field(description="rounds")

    @property
    def holds_1(self) -> bool:
        """Whether no difference can be seen."""
        return self.low <= 1 <= self.high


class TimingRow(Part):
    """One implementation at one batch size. A configuration that failed has `error` and no measurements."""

    implementation: str
    dtype: str
    batch_size: int = Field(description="images a call")
    prepare_s: float | None = Field(None, description="seconds to capture or compile; null: nothing is prepared")
    first_call_s: float | None = Field(None, description="seconds of the very first call")
    host_ms: float | None = Field(None, description="of a call until its last launch returned, median; null on a CPU")
    device_ms: float | None = Field(None, description="of these calls until the device was idle; null on a CPU")
    peak_memory_bytes: int | None = Field(None, description="on the device; on a CPU the process's resident size")
    error: str | None = None
    images_per_s: float | None = Field(None, description="batch size over the mean latency")
    images_per_s_low: float | None = Field(None, description="lower end of the 95 % interval over the windows")
    images_per_s_high: float | None = None
    steady: bool | None = Field(None, description="whether the last three windows agree within 5 %")
    ms_per_image: float | None = Field(None, description="mean latency over the batch size")
    latency_ms: Latency | None = None
    tflops: float | None = Field(None, description="TFLOP/s by flops_per_image and the mean latency")
    samples_ms: list[float] = Field([], description="of every timed call, in order")
    windows: list[int] = Field([], description="calls in each; figures are of the last three if steady, else of all")

    @property
    def was_measured(self) -> bool:
        return self.images_per_s is not None

    @property
    def is_launch_bound(self) -> bool:
        """Whether the device waits for the host."""
        return waits_for_host(self.host_ms, self.device_ms)


class Limits(Part):
    """What the device could do at most. Bandwidths are in GB/s of 10^9 bytes, reading and writing together."""

    vendor_tflops: dict[str, float] = Field(description="dense 16-bit peaks by their source; empty: none is published")
    square_matmul_tflops: float = Field(description="a large square product, measured in this run")
    products_tflops: float | None = Field(description="the best of the network's own products alone, in this run")
    vendor_gb_per_s: float | None = Field(description="null where none is known")
    copied_gb_per_s: float | None = Field(description="a large copy on the device, measured in this run")
    tflops_of_bound: float = Field(description="what bounds are computed with: the vendor's, else the best measured")
    gb_per_s_of_bound: float | None = Field(description="the same; null where the weights may stay in a cache")


class BatchTried(Part):
    """One batch size that was tried in the search for the largest one."""

    batch_size: int
    fits: bool
    seconds: float | None = Field(None, description="of the call, which is the first of its size")
    peak_bytes: int | None = Field(None, description="on the device; on a CPU the process's resident size")
    asked_bytes: int | None = Field(None, description="size of the failed allocation, where the error says so")
    error: str | None = None


class Frontier(Part):
    """The largest batch that fits into the memory."""

    largest: int = Field(description="images; 0 where not even one fits")
    exact: bool = Field(description="whether one image more was tried and failed")
    ended: str = Field(description="why the search ended, in words")
    tried: list[BatchTried]


class Transfer(Part):
    """What is around the computation of one batch; no time in the rows contains it."""

    batch_size: int
    copy_in_ms: float = Field(description="a batch of pixels from pageable host memory to the device, median")
    copy_out_ms: float = Field(description="its last hidden state back, median")
    joules_per_image: float | None = Field(None, description="mean power times time; null: the card does not say")


class BenchmarkRow(TimingRow):
    """A row of a sweep."""

    unavailable: str | None = Field(None, description="why this device cannot do it, where that is no failure")
    launches: int | None = Field(None, description="operators, copies and graph replays of a pass; null: compiled")
    relative_error: float | None = Field(None, description="of one image's last hidden state against the reference")
    share_of_vendor_peak: float | None = Field(None, description="tflops over the vendor's dense peak, 0 to 1")
    share_of_measured_matmul: float | None = Field(None, description="its speed over that of the same products alone")
    products: Ratio | None = Field(None, description="against the network's own products alone, timed in turn")
    bound_images_per_s: float | None = Field(None, description="what the device cannot exceed, by `limits`")
    share_of_bound: float | None = Field(None, description="images_per_s over that bound, 0 to 1")
    kept_bytes: int | None = Field(None, description="device memory that was not given back; null on a CPU")
    ratio: Ratio | None = None


class Attempt(Part):
    """One thing that was tried after a forward pass had failed."""

    name: str
    outcome: str
    worked: bool | None = Field(description="null for a look at the card, and for what could not be tried")


class SmokeRow(TimingRow):
    """The one row of a smoke run. Errors are relative: root mean square of the difference over the reference's."""

    fell_back: list[str] = Field([], description="operators that ran on the CPU because the device lacks them")
    diagnosis: list[Attempt] | None = Field(None, description="what was tried after a failure")
    memory: dict[str, int] | None = Field(None, description="bytes, by what they are peaks of")
    relative_error: float | None = Field(None, description="of the last hidden state against the wider reference")
    layer_errors: list[float | None] | None = Field(None, description="after the embeddings and after every block")
    layer_errors_transformers: list[float | None] | None = Field(None, description="of transformers' network on a CPU")
    block_errors: list[float | None] | None = Field(
        None, description="of each block's update alone, in float32, from the reference's input"
    )
    block_errors_transformers: list[float | None] | None = Field(None, description="of transformers' block on a CPU")
    block_errors_allowed: list[float | None] | None = Field(None, description="what is accepted of each block")


class AccuracyRow(Part):
    """The one row of an accuracy run. The five outcomes add up to `images`; fractions are of the scored images."""

    set: str
    images: int
    drawn_from: int | None = Field(None, description="images of the whole set, where these were drawn from it")
    left_aside: int | None = Field(None, description="files, folders, links and members that are not the set's images")
    left_aside_possible_images: int | None = Field(None, description="those that could be images, or hold some")
    left_aside_first: list[str] | None = Field(None, description="the first with the reason, possible images first")
    scored: int
    unreadable: int
    missing: int
    unlabelled: int
    nonfinite: int
    with_orientation: int | None = Field(
        None, description="images whose EXIF orientation is not 1: it is applied for imagenet-1k and real only"
    )
    cmyk: int | None = Field(None, description="images stored as CMYK: readers differ by up to 2 grey levels")
    top1_hits: int
    top1: float | None
    top1_low: float | None = Field(description="lower end of the 95 % Wilson interval")
    top1_high: float | None
    top5_hits: int
    top5: float | None
    top5_low: float | None
    top5_high: float | None
    batch_seconds: list[float] | None = Field(None, description="of each batch's forward pass, in order, synchronised")
    waited_s: float | None = Field(None, description="seconds in which the devices waited for images")
    whole_s: float | None = Field(None, description="seconds of the evaluation on the wall, without interruptions")
    against: dict[str, Any] | None = Field(None, description="the comparison with another run's answers, for a reader")

    def best(self, k: Literal[1, 5]) -> tuple[float, float, float]:
        """Top-k and its interval, as fractions. Only for a row with scored images."""
        share, low, high = (
            (self.top1, self.top1_low, self.top1_high) if k == 1 else (self.top5, self.top5_low, self.top5_high)
        )
        if share is None or low is None or high is None:
            raise ValueError("no image was scored")
        return share, low, high

    def hits(self, k: Literal[1, 5]) -> int:
        """Images whose right class is among the first k answers."""
        return self.top1_hits if k == 1 else self.top5_hits


class CardRow(Part):
    """What one process did in this run. A speed is over its batches after the first, which also loads kernels."""

    process: int = Field(description="its number, from 0 on")
    card: str
    host: str
    images: int
    images_per_s: float | None = Field(description="by its own clock, with waiting; null for fewer than two batches")
    computed_s: float
    waited_s: float = Field(description="seconds in which its images were not ready")
    failed: str = Field("", description="why it ended before its share was done; empty where it did its work")


class AllCards(Part):
    """The speed of all processes of this run."""

    images: int
    seconds: float = Field(description="from the start of the first batch of any to the end of the last, on the wall")
    images_per_s: float = Field(description="these images over these seconds")
    with_start_images_per_s: float = Field(description="the same with starting processes and loading the model")
    sum_of_cards_images_per_s: float | None = Field(description="of the speeds of the single cards")
    alone_images_per_s: float | None = Field(None, description="the first card alone; null unless asked for")
    scaling_efficiency: float | None = Field(None, description="mean speed of a card over the first's alone, 0 to 1")


class Interruption(Part):
    """An earlier run into the same folder that ended before it had all answers."""

    run: str = Field(description="id of its record")
    started: str = Field(description="UTC time, ISO 8601")
    reason: str
    images: int = Field(description="that it had answered and brought to the disk")
    journals: int
    dropped_bytes: int = Field(description="of half-written blocks, which are not believed")


class Estimate(Part):
    """A figure with its 95 % interval, by Student's t over windows; the ends are null for fewer than two windows."""

    mean: float
    low: float | None
    high: float | None


class CardAtOnce(Part):
    """One card while all of them worked."""

    process: int = Field(description="its number, from 0 on")
    card: str
    images_per_s: Estimate = Field(description="while all cards worked")
    calls: int = Field(description="timed calls while all cards worked")
    error: float | None = Field(description="relative, of one image against the first card's; null: not finite")
    host_ms: float | None = Field(description="of a call until its last launch returned; null on a CPU")
    device_ms: float | None = Field(description="of the same calls until the device was idle; null on a CPU")

    @property
    def waits(self) -> bool:
        """Whether this card waits for the host that launches its work."""
        return waits_for_host(self.host_ms, self.device_ms)


class CardsAtOnce(Part):
    """All cards at once, and the first of them while the others waited, in windows that follow each other in turn."""

    implementation: str
    dtype: str
    batch_size: int = Field(description="images a call of each card")
    cards: list[CardAtOnce]
    alone_images_per_s: Estimate = Field(description="the first card while the others waited")
    alone_host_ms: float | None = Field(description="as host_ms, of the first card while the others waited")
    alone_device_ms: float | None
    images_per_s: Estimate = Field(description="all cards: their images over the time from first start to last end")
    kept_by_first: Estimate = Field(description="speed of the first card among the others over its speed alone, 0 to 1")
    scaling_efficiency: Estimate = Field(description="images_per_s over that of as many cards like the first, 0 to 1")
    windows: int = Field(description="of each kind")

    @property
    def first_waits_alone(self) -> bool:
        """Whether the first card waits for its host even while the others do nothing."""
        return waits_for_host(self.alone_host_ms, self.alone_device_ms)


class ComparedRun(Part):
    """A run that is compared with others."""

    given: str = Field(description="as it was named: a folder, a record or a page")
    records: dict[str, str] = Field(description="id of the record, by notebook")
    statuses: dict[str, str] = Field(description="how each notebook ended")
    headlines: dict[str, str] = Field(description="the key figure of each notebook")
    started: str = Field(description="UTC time of the first notebook, ISO 8601")
    model: str
    device: str
    dtype: str


class Difference(Part):
    """Something that is not the same in all runs."""

    name: str
    values: list[str | None] = Field(description="of each run, in order; null where a run does not say")


class Unmatched(Part):
    """Something that only one of two compared runs has."""

    run: int = Field(description="which later run, counted from 1 for the first one of all")
    name: str
    where: Literal["first", "later"] = Field(description="the run that has it")
    why: str | None = Field(None, description="what the other run says of it")


class CompareRow(Part):
    """One thing in a later run beside the same thing in the first one."""

    run: int = Field(description="which later run, counted from 1 for the first one of all")
    kind: Literal["speed", "answers", "error", "ending"]
    notebook: str
    name: str = Field(description="the configuration, the image set, the implementation or the notebook")
    unit: str = Field(description="of `first` and `later`")
    first: float | None = Field(description="in the first run")
    later: float | None = Field(description="in the later run")
    change: float | None = Field(None, description="later over first; of answers later minus first, as a fraction")
    low: float | None = Field(None, description="lower end of the 95 % interval of the change; null: there is none")
    high: float | None = None
    p: float | None = Field(None, description="answers, image by image: McNemar's exact p")
    outcome: Literal["better", "worse", "no difference seen", "not judged"]
    detail: str = Field(description="the reason of the outcome, in words")


class ExploreRow(Part):
    """The difference of the two sides after a block, relative: root mean square over that of the other side."""

    block: int = Field(description="0: after the embeddings")
    difference: float | None = Field(description="of all tokens; null where it is not finite")
    transformers: float | None = Field(None, description="of transformers' network on a CPU in this dtype")
    class_token: float | None = Field(None, description="of the class token, over the root mean square of a token")
    largest: float | None = Field(None, description="the largest of a patch, over the root mean square of a token")
    largest_at: int | None = Field(None, description="which patch that is, counted from 1 in rows")


class Answer(Part):
    """One of the classes with the highest scores."""

    name: str
    score: float | None = Field(description="softmax, 0 to 1")


class Neighbour(Part):
    """An image of the gallery."""

    name: str = Field(description="its path in the gallery")
    similarity: float | None = Field(description="cosine of the two class tokens after the last block")
    label: str | None = Field(None, description="its class; null in a gallery without class folders")
