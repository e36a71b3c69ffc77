"""The questions of the smoke notebook: each answers with a table or pictures, and with checks in the run's record."""

from dataclasses import asdict

from PIL import Image
from torch import Tensor

from ivit_helpers.device.device import dtype_name
from ivit_helpers.errors import InputError
from ivit_helpers.images.single import named_image
from ivit_helpers.measure.figures import patch_components
from ivit_helpers.measure.samples import interval_in_words
from ivit_helpers.measure.timing import pixel_batch, sweep, timing_table
from ivit_helpers.record.parameters import SmokeParameters
from ivit_helpers.record.record import SmokeRecord
from ivit_helpers.record.rows import SmokeRow
from ivit_helpers.record.run import Run
from ivit_helpers.report.figure import Together
from ivit_helpers.report.gallery import Gallery
from ivit_helpers.report.table import NOTHING, Facts, Table, facts
from ivit_helpers.smoke.diagnosis import advice, ladder
from ivit_helpers.smoke.operators import audited, operators_table
from ivit_helpers.weights.loading import Loaded
from ivit_helpers.weights.sources import Checkpoint

TIMED_CALLS, TIMED_SECONDS = 20, 10.0
KNOWN_TYPES = ("intern_vit_6b",)
ANSWERS_SHOWN = 5
SmokeRun = Run[SmokeRecord]


def check_inputs(asked: SmokeParameters) -> None:
    """Raise InputError where `image_path` is not an image; reads no weights."""
    named_image(asked.image_path)


def configuration(run: SmokeRun, found: Checkpoint) -> Facts:
    """Check that config.json describes an InternViT and show what was taken from it and from the processor's config."""
    kind = found.published.get("model_type", "random weights" if found.is_random else "not given")
    known = found.is_random or kind in KNOWN_TYPES or "InternVisionModel" in found.published.get("architectures", [])
    run.check("configuration", known, f"{found.name}: model_type {kind}")
    resampling = Image.Resampling(found.transform.resample).name.lower()
    crop = f"short side to {found.transform.size}, centre crop {found.transform.crop_size}, {resampling}"
    side, native = found.transform.crop_size, found.config.image_size
    run.check("image size", side == native, f"the processor makes {side} px, the network was made for {native} px")
    return facts({**asdict(found.config), "tokens": found.config.tokens, "preprocessing": crop}, "config.json")


def weights(run: SmokeRun, loaded: Loaded) -> Facts:
    """Record what was loaded, how long it took and the memory it took."""
    described = loaded.facts()
    run.note(model=described, caveats=loaded.caveats())
    for verdict in loaded.kernel_verdicts:
        run.check(
            f"fused {verdict.kernel}",
            not verdict.refused,
            str(verdict) + ("; the plain one is used" if verdict.refused else ""),
        )
    read = f"{described.shards} shards, every value finite, no part filled with zeros"
    source = read if described.shards else "a seeded generator"
    run.check(
        "weights", True, f"{described.tensors} tensors, every name and shape as config.json implies, from {source}"
    )
    return facts(described, "Weights")


def steady_call(run: SmokeRun, loaded: Loaded, asked: SmokeParameters) -> Table:
    """Time a synthetic batch: the first call on its own, then steady calls."""
    with loaded.device.fall_backs() as fell_back:
        [series] = sweep(
            {"fused": loaded.network}, lambda size: pixel_batch(loaded, size), [asked.batch_size], loaded.device,
            warmup=asked.warmup, repeats=TIMED_CALLS, seconds=TIMED_SECONDS,
        )  # fmt: skip
    row = series.row(dtype_name(loaded.dtype), loaded.network.config.flops_per_image)
    run.note(rows=[SmokeRow(**row.model_dump(), fell_back=[*loaded.fell_back, *fell_back])])
    if row.error or row.latency_ms is None:
        run.check("forward pass", False, row.error or "no call was timed")
    else:
        steady = f"{row.latency_ms.p50:.1f} ms (median of {row.latency_ms.n})"
        run.check("forward pass", True, f"batch {asked.batch_size}: first call {row.first_call_s:.3f} s, then {steady}")
    return timing_table([row])


def diagnose(run: SmokeRun, loaded: Loaded, asked: SmokeParameters) -> Table:
    """Where the forward pass failed, climb the fall back ladder; its advice becomes the run's headline."""
    failed_with = run.record.rows[0].error
    if not failed_with:
        return Table([{"diagnosis": "not needed: the forward pass ran"}])
    attempts = ladder(loaded, asked.batch_size)
    run.note(headline=f"The forward pass fails ({failed_with}); {advice(attempts)}")
    run.extend_row(diagnosis=attempts)
    shown = {True: "ran", False: "failed", None: NOTHING}
    return Table(
        [{"tried": one.name, "ended": shown[one.worked], "what happened": one.outcome} for one in attempts],
        advice(attempts),
    )


def _needs_forward(run: SmokeRun) -> None:
    """Stop here, in one sentence, when there is no forward pass to ask about."""
    if run.record.rows[0].error:
        raise InputError(f"Nothing more can be asked of this device. {run.record.headline}.")


def operator_table(run: SmokeRun, loaded: Loaded) -> Table:
    """The operators of one forward pass, how often and where each ran; one that ran on the CPU instead fails the check by name."""
    _needs_forward(run)
    pixels = pixel_batch(loaded, 1)
    with loaded.device.inference():
        audit = audited(lambda: loaded.network(pixels), loaded.device)
    fell_back = list(dict.fromkeys([*run.record.rows[0].fell_back, *audit.fell_back]))
    detail = f"{audit.calls.total()} calls of {len(audit.calls)} operators"
    notes = dict.fromkeys(fell_back, "fell back to the CPU") | {
        name: f"failed: {error}" for name, error in audit.refused.items()
    }
    run.check(
        "every operator runs on the device",
        not notes,
        "; ".join(f"{name} {note}" for name, note in notes.items()) or detail,
    )
    return operators_table(audit.calls, notes)


def memory_table(run: SmokeRun, loaded: Loaded, asked: SmokeParameters) -> Table:
    """The memory that this model, dtype and batch were seen to need, on the card and on the host."""
    peak, device = run.record.rows[0].peak_memory_bytes, loaded.device
    needs = {"weights_bytes": loaded.bytes, "host_peak_while_loading_bytes": loaded.host_peak_bytes}
    if device.uses_host_memory:
        needs["host_peak_of_a_forward_pass_bytes"] = peak
    else:
        needs["card_peak_while_loading_bytes"] = loaded.device_peak_bytes
        needs["card_peak_of_a_forward_pass_bytes"] = peak
        needs["card_taken_in_all_bytes"] = device.total_memory() - device.available_memory()
    seen = {name: value for name, value in needs.items() if value is not None}
    run.extend_row(memory=seen)
    what = f"{loaded.checkpoint.name}, {dtype_name(loaded.dtype)}, batch {asked.batch_size}"
    rows = [{"what": name, "memory": memory} for name, memory in facts(seen).pairs.items()]
    return Table(rows, f"Peaks seen in this run: {what}")


def features(run: SmokeRun, loaded: Loaded) -> Facts:
    """Check shape, dtype and finiteness of the features (1, hidden_size) of one synthetic image."""
    _needs_forward(run)
    with loaded.device.inference():
        hidden = loaded.network(pixel_batch(loaded, 1))
    class_token, width = hidden[:, 0], loaded.network.config.hidden_size
    finite = int(hidden.isfinite().sum())
    right = tuple(class_token.shape) == (1, width) and class_token.dtype == loaded.dtype
    run.check(
        "features",
        right,
        f"shape {tuple(class_token.shape)}, {class_token.dtype}; expected (1, {width}), {loaded.dtype}",
    )
    run.check(
        "all features finite",
        finite == hidden.numel(),
        f"{finite:,} of {hidden.numel():,} values of the last hidden state",
    )
    wide = class_token.float()
    return facts(
        {
            "shape": str(tuple(class_token.shape)),
            "dtype": str(class_token.dtype),
            "mean": f"{wide.mean():.4f}",
            "standard deviation": f"{wide.std():.4f}",
            "largest magnitude": f"{wide.abs().max():.4f}",
        },
        "The class token of one synthetic image",
    )


class Look(Together):
    """One real image and what the model made of it."""

    def __init__(self, pixel_values: Tensor, pictures: Gallery, answers: Table) -> None:
        super().__init__(pictures, answers)
        self.pixel_values = pixel_values
        """(1, 3, height, width), on the CPU, float32"""


def look(run: SmokeRun, loaded: Loaded, image_path: str) -> Look:
    """Classify one real image and picture its patch tokens. Raises InputError when the file cannot be read."""
    path, image = named_image(image_path)
    transform, config = loaded.checkpoint.transform, loaded.network.config
    try:
        pixels = transform(image)[None]
    except ValueError as error:
        raise InputError(f"{path} cannot be shown to the network ({error}): give another image.") from None
    with loaded.device.inference():
        hidden = loaded.network(pixels.to(loaded.device.torch_device))
        logits = loaded.head(hidden).float().cpu()
    run.check(
        "a real image",
        bool(logits.isfinite().all()),
        f"{path.name}, {image.width} x {image.height} pixels, through the whole pipeline",
    )
    side = transform.crop_size
    seen = patch_components(hidden[0, 1:], config.grid).resize((side, side), Image.Resampling.NEAREST)
    return Look(
        pixels,
        Gallery(
            [transform.crop(image), seen],
            [f"{path.name} as the network gets it", "its patch tokens, principal components"],
            size=320,
        ),
        _answers(loaded, logits),
    )


def _answers(loaded: Loaded, logits: Tensor) -> Table:
    scores, classes = logits.softmax(-1)[0].topk(min(ANSWERS_SHOWN, logits.shape[-1]))
    trained = "" if loaded.head_is_trained else " (the head is random: the names mean nothing)"
    return Table(
        [
            {"rank": str(rank), "class": loaded.classes[int(index)], "score": f"{score:.2%}"}
            for rank, (score, index) in enumerate(zip(scores, classes, strict=True), 1)
        ],
        f"The five best answers{trained}",
    )


def headline(record: SmokeRecord) -> str:
    """The key figure of a smoke run in words."""
    row = record.rows[0] if record.rows else None
    if row is None or row.latency_ms is None:
        return "The forward pass did not run"
    error = (
        "no relative error was computed" if row.relative_error is None else f"relative error {row.relative_error:.1e}"
    )
    how = f"at batch {row.batch_size} in {row.dtype} ({row.latency_ms.n} calls{'' if row.steady else ', timing not steady'})"
    return f"{row.images_per_s:.2f} images/s ({interval_in_words(row.images_per_s_low, row.images_per_s_high)}) {how}, {error}"
