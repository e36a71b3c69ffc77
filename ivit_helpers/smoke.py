"""The questions of the smoke notebook: each answers with a table or pictures, and with checks in the run's record."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ivit_helpers import drawing, environment, evaluation, fidelity, figures, gate, images, operators, tables, timing
from ivit_helpers.checkpoint import Checkpoint, Loaded
from ivit_helpers.comparison import pixel_batch
from ivit_helpers.device import dtype_name
from ivit_helpers.diagnosis import advice, ladder
from ivit_helpers.errors import InputError, told
from ivit_helpers.parameters import SmokeParameters
from ivit_helpers.pictures import Gallery, patch_components
from ivit_helpers.record import Record, Run
from ivit_helpers.tables import NOTHING

TIMED_CALLS, TIMED_SECONDS = 20, 10.0
KNOWN_TYPES = ("intern_vit_6b",)


def configuration(run: Run, found: Checkpoint) -> tables.Facts:
    """Check that config.json describes an InternViT and show what was taken from it and from the processor's config."""
    kind = found.published.get("model_type", "random weights" if found.is_random else "not given")
    known = found.is_random or kind in KNOWN_TYPES or "InternVisionModel" in found.published.get("architectures", [])
    run.check("configuration", known, f"{found.name}: model_type {kind}")
    crop = f"short side to {found.transform.size}, centre crop {found.transform.crop_size}, bicubic"
    side, native = found.transform.crop_size, found.config.image_size
    run.check("image size", side == native, f"the processor makes {side} px, the network was made for {native} px")
    return tables.facts({**asdict(found.config), "tokens": found.config.tokens, "preprocessing": crop}, "config.json")


def weights(run: Run, loaded: Loaded) -> tables.Facts:
    """Record what was loaded, how long it took and the memory it took."""
    described = loaded.described()
    run.note(model=described, caveats=environment.caveats(loaded.device, described))
    for verdict in loaded.kernel_verdicts:
        run.check(f"fused {verdict.kernel}", not verdict.refused, str(verdict) + ("; the plain one is used" if verdict.refused else ""))
    read = f"{described['shards']} shards, every value finite, no part filled with zeros"
    source = read if described["shards"] else "a seeded generator"
    run.check("weights", True, f"{described['tensors']} tensors, every name and shape as config.json implies, from {source}")
    return tables.facts(described, "Weights")


def steady_call(run: Run, loaded: Loaded, asked: SmokeParameters) -> tables.Table:
    """Time a synthetic batch: the first call on its own, then steady calls."""
    with operators.standard_error() as lines:
        [series] = timing.sweep(
            {"fused": loaded.network}, lambda size: pixel_batch(loaded, size), [asked.batch_size], loaded.device,
            warmup=asked.warmup, repeats=TIMED_CALLS, seconds=TIMED_SECONDS,
        )  # fmt: skip
    row = series.row(dtype_name(loaded.dtype), loaded.network.config.flops_per_image)
    run.note(rows=[row | {"fell_back": [*loaded.fell_back, *operators.fell_back(lines)]}])
    if series.error:
        run.check("forward pass", False, series.error)
    else:
        steady = f"{row['latency_ms']['p50']:.1f} ms (median of {len(series.samples_s)})"
        run.check("forward pass", True, f"batch {asked.batch_size}: first call {series.first_call_s:.3f} s, then {steady}")
    return tables.benchmark([row])


def diagnosis(run: Run, loaded: Loaded, asked: SmokeParameters) -> tables.Table:
    """When the forward pass failed, climb the fall back ladder; the advice becomes the run's headline."""
    failed_with = run.record.rows[0]["error"]
    if not failed_with:
        return tables.Table([{"diagnosis": "not needed: the forward pass ran"}])
    rungs = ladder(loaded, asked.batch_size)
    run.note(headline=f"The forward pass fails ({failed_with}); {advice(rungs)}")
    run.extend_row(diagnosis=[asdict(rung) for rung in rungs])
    shown = {True: "ran", False: "failed", None: NOTHING}
    return tables.Table([{"tried": rung.name, "": shown[rung.worked], "what came of it": rung.outcome} for rung in rungs], advice(rungs))


def _needs_forward(run: Run) -> None:
    """Stop here, in one sentence, when there is no forward pass to ask about."""
    if run.record.rows[0]["error"]:
        raise InputError(f"Nothing more can be asked of this device. {run.record.headline}.")


def operator_table(run: Run, loaded: Loaded) -> tables.Table:
    """The operators of one forward pass, how often and where each ran; a fall back to the CPU fails the check and is named."""
    _needs_forward(run)
    pixels = pixel_batch(loaded, 1)
    with loaded.device.inference():
        audit = operators.audited(lambda: loaded.network(pixels))
    left = list(dict.fromkeys([*run.record.rows[0]["fell_back"], *audit.fell_back]))
    detail = f"{audit.calls.total()} calls of {len(audit.calls)} operators"
    notes = dict.fromkeys(left, "fell back to the CPU") | {name: f"failed: {error}" for name, error in audit.refused.items()}
    run.check("every operator runs on the device", not notes, "; ".join(f"{name} {note}" for name, note in notes.items()) or detail)
    return tables.operators(audit.calls, notes)


def memory_table(run: Run, loaded: Loaded, asked: SmokeParameters) -> tables.Table:
    """The memory that this model, dtype and batch were seen to need, on the card and on the host."""
    peak = run.record.rows[0]["peak_memory_bytes"]
    on_card = loaded.device.type != "cpu"
    needs = {
        "weights_bytes": loaded.bytes,
        "card_peak_while_loading_bytes": loaded.device_peak_bytes if on_card else None,
        f"{'card' if on_card else 'host'}_peak_of_a_forward_pass_bytes": peak,
        "card_taken_in_all_bytes": loaded.device.total_memory() - loaded.device.available_memory() if on_card else None,
        "host_peak_while_loading_bytes": loaded.host_peak_bytes,
    }
    seen = {name: value for name, value in needs.items() if value is not None}
    run.extend_row(memory=seen)
    what = f"{loaded.checkpoint.name}, {dtype_name(loaded.dtype)}, batch {asked.batch_size}"
    return tables.memory(seen, f"Peaks seen in this run: {what}")


def features(run: Run, loaded: Loaded) -> tables.Facts:
    """Check shape, dtype and finiteness of the features (1, hidden_size) of one synthetic image."""
    _needs_forward(run)
    with loaded.device.inference():
        hidden = loaded.network(pixel_batch(loaded, 1))
    class_token, width = hidden[:, 0], loaded.network.config.hidden_size
    finite = int(hidden.isfinite().sum())
    right = tuple(class_token.shape) == (1, width) and class_token.dtype == loaded.dtype
    run.check("features", right, f"shape {tuple(class_token.shape)}, {class_token.dtype}; expected (1, {width}), {loaded.dtype}")
    run.check("all features finite", finite == hidden.numel(), f"{finite:,} of {hidden.numel():,} values of the last hidden state")
    wide = class_token.float()
    return tables.facts(
        {
            "shape": str(tuple(class_token.shape)),
            "dtype": str(class_token.dtype),
            "mean": f"{wide.mean():.4f}",
            "standard deviation": f"{wide.std():.4f}",
            "largest magnitude": f"{wide.abs().max():.4f}",
        },
        "The class token of one synthetic image",
    )


class Look(drawing.Together):
    """One real image and what the model made of it."""

    def __init__(self, pixel_values: Tensor, pictures: Gallery, answers: tables.Table) -> None:
        super().__init__(pictures, answers)
        self.pixel_values = pixel_values
        """(1, 3, height, width), on the CPU, float32"""


def _image_to_look_at(image_path: str) -> tuple[Path, Image.Image]:
    path = Path(image_path).expanduser() if image_path else images.labelled("digits").paths[-1]
    try:
        return path, images.read(path)
    except FileNotFoundError:
        raise InputError(f"image_path={image_path!r} does not exist: give the path of an image file.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"image_path={image_path!r} cannot be read as an image ({error}): try another file.") from None


def look(run: Run, loaded: Loaded, image_path: str) -> Look:
    """Classify one real image and picture its patch tokens. Raises InputError when the file cannot be read."""
    path, image = _image_to_look_at(image_path)
    transform, config = loaded.checkpoint.transform, loaded.network.config
    pixels = transform(image)[None]
    with loaded.device.inference():
        hidden = loaded.network(pixels.to(loaded.device.torch_device))
        logits = loaded.head(hidden).float().cpu()
    run.check(
        "a real image", bool(logits.isfinite().all()), f"{path.name}, {image.width} x {image.height} pixels, through the whole pipeline"
    )
    seen = patch_components(hidden[0], config.grid, transform.crop_size)
    return Look(
        pixels,
        Gallery([transform.crop(image), seen], [f"{path.name} as the network gets it", "its patch tokens, principal components"], size=320),
        _answers(loaded, logits),
    )


def _answers(loaded: Loaded, logits: Tensor) -> tables.Table:
    scores, classes = logits.softmax(-1)[0].topk(min(evaluation.BEST, logits.shape[-1]))
    trained = "" if loaded.head_is_trained else " (the head is random: the names mean nothing)"
    return tables.Table(
        [
            {"rank": str(rank), "class": loaded.classes[int(index)], "score": f"{score:.2%}"}
            for rank, (score, index) in enumerate(zip(scores, classes, strict=True), 1)
        ],
        f"The five best answers{trained}",
    )


@dataclass(frozen=True)
class Distances:
    """Relative error against the truth after the embeddings and after every block."""

    ours: Sequence[float]
    peer: Sequence[float]
    expected: fidelity.Reference


def agreement(run: Run, loaded: Loaded, pixel_values: Tensor) -> Distances:
    """Hold this device's hidden states against the truth, block by block, beside transformers' own rounding on the CPU."""
    expected = fidelity.reference(loaded.network, pixel_values, loaded.dtype)
    found = fidelity.hidden_states(loaded.network, pixel_values, loaded.device)
    judged = fidelity.agreement(found[-1], expected)
    run.check("agreement with the truth", judged.passed, str(judged))
    distances = Distances(
        [fidelity.relative_error(here, truth) for here, truth in zip(found, expected.truth, strict=True)],
        [fidelity.relative_error(there, truth) for there, truth in zip(expected.peer, expected.truth, strict=True)],
        expected,
    )
    run.extend_row(relative_error=judged.error, layer_errors=distances.ours, layer_errors_transformers=distances.peer)
    return distances


def blocks_alone(run: Run, loaded: Loaded, expected: fidelity.Reference) -> drawing.Figure | tables.Table:
    """Hold each block by itself, in float32 on this device, against the truth; the check names the worst one and all that are off."""
    name = "every block by itself"
    _, verdicts = gate.trusted(loaded.network.config, loaded.device, torch.float32)  # a kernel may be right in bfloat16 alone
    plain = [verdict.kernel for verdict in verdicts if verdict.refused]
    try:
        blocks = fidelity.blocks_alone(loaded.network, expected, loaded.device, plain)
    except RuntimeError as error:
        check = run.check(name, None, f"the device computes no block of this network in float32: {told(error)}")
        return tables.Table([{name: check.detail}])
    shares = [block.share for block in blocks]
    worst = max(range(len(blocks)), key=shares.__getitem__)
    wrong = [str(number) for number, block in enumerate(blocks, 1) if not block.passed]
    said = [
        f"in float32, what a block adds is off by {blocks[worst].error:.1e} in the worst one ({worst + 1} of {len(blocks)})",
        f"up to {blocks[worst].allowed:.1e} is accepted",
        *([f"beyond that: block {', '.join(wrong)}"] if wrong else []),
        *([f"with plain {', '.join(plain)}, as the device's own is off in float32, so that nothing is said of it here"] if plain else []),
    ]
    run.check(name, False if wrong else None if plain else True, "; ".join(said))
    errors = {
        "block_errors": [block.error for block in blocks],
        "block_errors_transformers": [block.peer_error for block in blocks],
        "block_errors_allowed": [block.allowed for block in blocks],
    }
    run.extend_row(**errors)
    return figures.block_errors(*errors.values())


def headline(record: Record) -> str:
    """The key figure of a smoke run in words."""
    row = record.rows[0] if record.rows else {}
    if not row.get("images_per_s"):
        return "The forward pass did not run"
    return (
        f"{row['images_per_s']:.2f} images/s at batch {row['batch_size']} in {row['dtype']} ({row['latency_ms']['n']} calls), "
        f"relative error {row.get('relative_error', float('nan')):.1e}"
    )
