"""The card holds what a port's card holds, in two languages, and no number that no run measured."""

import json
import re
import statistics

import pytest
import yaml
from click.testing import CliRunner

from ivit_helpers.__main__ import main
from ivit_helpers.errors import InputError
from ivit_helpers.model_card.card import model_card
from ivit_helpers.model_card.texts import TEXTS
from ivit_helpers.paths import REPORTS
from ivit_helpers.record.record import AccuracyRecord, BenchmarkRecord, SmokeRecord, write
from ivit_helpers.record.rows import (
    AccuracyRow,
    Attempt,
    BenchmarkRow,
    Check,
    Latency,
    ModelFacts,
    Provenance,
    SmokeRow,
)

EXAMPLE = REPORTS / "examples" / "miniature-on-2-cpu-cores"
LANGUAGES = ("en", "zh")
NUMBER = re.compile(r"(?<![\w.-])\d(?:[\d.,]*\d)?(?:e[-+]\d+)?", re.ASCII)
SINGLE_SAMPLES = {"samples_ms", "windows", "batch_seconds", "layer_errors", "layer_errors_transformers", "block_errors",
                  "block_errors_transformers", "block_errors_allowed"}  # fmt: skip

# The card that a port by hand came with: its figures, as records of this kit would hold them.
ENVIRONMENT = {
    "device": "Ascend910B4", "device_type": "npu", "device_memory_bytes": 32 * 2**30, "host_memory_bytes": 64 * 2**30,
    "torch": "2.9.0+cpu", "torch-npu": "2.9.0.post1", "transformers": "4.57.6", "timm": "0.9.x", "cann": "8.5.1",
}  # fmt: skip
FOLDER = "/opt/atomgit/weights/OpenGVLab/InternViT-6B-224px"
MODEL = ModelFacts(
    name="InternViT-6B-224px", parameters=5_903_401_600, bytes=11_806_803_200, tensors=628, shards=2, dtype="bfloat16",
    flops_per_image=3_073_000_000_000, image_size=224, hidden_size=3200, layers=48, heads=25, intermediate_size=12800, patch_size=14,
    model_type="intern_vit_6b", architectures=["InternVisionModel"], head="Linear over class token", classes=1000, head_is_trained=False,
    load_seconds=20.0, load_host_peak_bytes=13 * 2**30, load_device_peak_bytes=12 * 2**30, kernels="plain", stored_dtype="bfloat16",
)  # fmt: skip
RESULTS = ("configuration", "image size", "weights", "forward pass", "every operator runs on the device", "features")
BATCHES = {1: (11.24, 88.99), 4: (29.74, 33.62), 8: (32.66, 30.61)}
PORTS_CARD = [
    # introduction and key configuration
    "InternViT-6B-224px", "224 × 224", "14 × 14", "5,903,401,600",
    "| architectures | InternVisionModel |", "| model_type | intern_vit_6b |",
    "| num_hidden_layers | 48 |", "| hidden_size | 3200 |", "| num_attention_heads | 25 |", "| intermediate_size | 12800 |",
    "| image_size | 224 |", "| patch_size | 14 |", "| torch_dtype | bfloat16 |", "https://huggingface.co/OpenGVLab/InternViT-6B-224px",
    # environment
    "| PyTorch | 2.9.0+cpu |", "| torch-npu | 2.9.0.post1 |", "| transformers | 4.57.6 |", "| timm | 0.9.x |", "| CANN | 8.5.1 |",
    "Ascend910B4", "32.00 GiB", FOLDER,
    # architecture and adaptation
    "InternVisionEmbeddings", "InternVisionEncoder | 48", "InternAttention", "InternMLP", "GELU",
    '`model.cuda()` | `model.to("npu")` |', '`pixel_values.cuda()` | `pixel_values.to("npu")` |', "BF16 | bfloat16 |", "Flash Attention |",
    "meta", "softmax",
    # how to run
    "export HF_ENDPOINT=", "image_path=IMAGE", "ivit run smoke -p model=" + FOLDER,
    # smoke
    "config.json", "2 shards", "batch_size=1, dtype=bfloat16", "hidden_size=3200, num_classes=1000", "elapsed=0.083s",
    "throughput=12.03 img/s", "shape (1, 3200)",
    # performance
    *(f"| {batch} | {speed:.2f} |" for batch, (speed, _) in BATCHES.items()), *(f"| {ms:.2f} |" for _, ms in BATCHES.values()),
    # accuracy
    "| synthetic |", "| 200 |", "| Top-1 | 0.00% |", "| Top-5 | 0.50% |", "897.8 ms", "244.8 ms",
    # hardware, dependencies, ladder
    "12.00 GiB | 32.00 GiB", "13.00 GiB | 64.00 GiB", "11.00 GiB", "pip install", "npu-smi info", "dtype=float32", "batch_size=1",
    # layout
    "README.md", "smoke.json", "benchmark.json", "accuracy.json", "benchmark_rows.csv",
]  # fmt: skip


@pytest.fixture
def ported(tmp_path):
    """A folder with the three records of the port."""
    origin = Provenance(
        kit="0.1.0",
        commit=None,
        command=f"ivit run smoke -p model={FOLDER} -p device=npu",
        notebook_sha256=None,
        clock="host",
    )
    whole = {
        "started": "2026-01-01T00:00:00+00:00", "concluded": True, "parameters": {"model": FOLDER, "device": "npu", "batch_size": 8},
        "environment": ENVIRONMENT, "model": MODEL, "provenance": origin,
    }  # fmt: skip
    details = {"weights": "628 tensors from 2 shards", "features": "shape (1, 3200), torch.bfloat16"}
    checks = [Check(name=name, status="passed", detail=details.get(name, ""), deciding=True) for name in RESULTS]
    steady = Latency(p50=83.1, p90=None, p99=None, mean=83.1, n=20)
    smoke = SmokeRow(
        implementation="fused", dtype="bfloat16", batch_size=1, first_call_s=3.1, images_per_s=12.03, latency_ms=steady
    )
    rows = [
        BenchmarkRow(implementation="fused", dtype="bfloat16", batch_size=batch, images_per_s=speed, ms_per_image=ms)
        for batch, (speed, ms) in BATCHES.items()
    ]
    seconds = [0.2448] * 24 + [0.8978 * 25 - 0.2448 * 24]
    scored = AccuracyRow(
        set="synthetic", images=200, scored=200, unreadable=0, missing=0, unlabelled=0, nonfinite=0, top1_hits=0, top1=0.0, top1_low=0.0,
        top1_high=0.02, top5_hits=1, top5=0.005, top5_low=0.001, top5_high=0.03, batch_seconds=seconds,
    )  # fmt: skip
    write(SmokeRecord(rows=[smoke], checks=checks, **whole), tmp_path / "smoke.json")
    write(
        BenchmarkRecord(rows=rows, checks=checks[:1], tables={"benchmark_rows.csv": "0"}, **whole),
        tmp_path / "benchmark.json",
    )
    unjudged = Check(name="accuracy", status="skipped", detail="random head", deciding=True)
    write(AccuracyRecord(rows=[scored], checks=[checks[0], unjudged], **whole), tmp_path / "accuracy.json")
    return tmp_path


def lines_of(card):
    return card.split("\n")


def in_front(card):
    return yaml.safe_load(card.split("---\n")[1])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("part", PORTS_CARD)
def test_the_card_of_a_port_holds_what_its_card_by_hand_held(part, language, ported):
    assert part in model_card([str(ported)], language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_section_and_result_is_there_in_the_language(language, ported):
    card, place = model_card([str(ported)], language), LANGUAGES.index(language)
    headings = [line.lstrip("# ").split(". ", 1)[-1] for line in lines_of(card) if line.startswith("## ")]
    expected = (
        "introduction",
        "environment",
        "architecture",
        "how_to_run",
        "smoke",
        "performance",
        "accuracy",
        "notes",
        "layout",
        "summary",
    )
    assert headings == [TEXTS[key][place] for key in expected]
    summary = card.partition(f"## 10. {TEXTS['summary'][place]}")[2]
    assert summary.count(TEXTS["passed"][place]) == 4
    assert TEXTS["pipeline_only"][place] in card
    assert (
        re.search(r"[\u4e00-\u9fff]", "".join(headings)) is not None
        if language == "zh"
        else card.isascii() or "×" in card
    )


def test_the_front_matter_is_what_the_hubs_read(ported):
    front = in_front(model_card([str(ported)], "zh"))
    assert front == {
        "license": "mit", "pipeline_tag": "image-feature-extraction", "library_name": "transformers", "language": "zh",
        "base_model": "OpenGVLab/InternViT-6B-224px", "tags": ["internvit", "vision", "npu", "ascend", "bfloat16"],
    }  # fmt: skip


def test_random_weights_have_no_base_model_and_no_licence(ported):
    smoke = json.loads((ported / "smoke.json").read_text())
    smoke["model"]["name"] = "random:6b-224"
    (ported / "one.json").write_text(json.dumps(smoke))
    card = model_card([str(ported / "one.json")], "en")
    assert not {"base_model", "license"} & in_front(card).keys()
    assert "huggingface" not in card


def told(value, name=""):
    """Every number of a record but single samples, and every text."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in SINGLE_SAMPLES:
                yield from told(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from told(item, name)
    elif value is not None:
        yield value


def strange_numbers(card, records):
    """The numbers of a card, without its headings and the places of list items, that no record has."""
    known = [one for record in records for one in told(record)]
    known += [f(row["batch_seconds"]) for record in records for row in record["rows"] if "batch_seconds" in row
              for f in (statistics.fmean, statistics.median)]  # fmt: skip
    texts = {token for one in known if isinstance(one, str) for token in NUMBER.findall(one)}
    numbers = [one for one in known if isinstance(one, (int, float)) and not isinstance(one, bool)]
    body = "\n".join(re.sub(r"^\d+\. ", "", line) for line in lines_of(card) if not line.startswith("#"))
    return {
        token
        for token in NUMBER.findall(body)
        if token not in texts and not any(is_shown(token, number) for number in numbers)
    }


def is_shown(token, number):
    """Whether a token is a number as a card shows it: as it is, as a percentage, in milliseconds, MiB or GiB."""
    digits = len(token.partition(".")[2].partition("e")[0])
    if "e" in token:
        return token == f"{number:.{digits}e}"
    return token.replace(",", "") in {f"{number * scale:.{digits}f}" for scale in (1, 100, 1e3, 1e-3, 2**-20, 2**-30)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_card_has_no_number_that_no_record_has(language):
    records = [json.loads(path.read_text()) for path in sorted(EXAMPLE.glob("*.json"))]
    card = model_card([str(EXAMPLE)], language)
    assert len(set(NUMBER.findall(card))) > 100
    assert strange_numbers(card, records) == set()
    assert strange_numbers(card + "\nA card of 48,613 GB, 12.0319 images/s.", records) == {"48,613", "12.0319"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_was_not_measured_is_left_out_and_said(language, ported):
    (ported / "benchmark.json").unlink()
    (ported / "accuracy.json").unlink()
    card, place = model_card([str(ported)], language), LANGUAGES.index(language)
    assert card.partition(f"## 7. {TEXTS['accuracy'][place]}")[2].strip().startswith(TEXTS["not_measured"][place])
    assert "Top-1" not in card
    assert "32.66" not in card
    assert card.count(TEXTS["missing"][place]) >= 2


def test_a_failure_is_in_the_conclusion_with_what_was_tried(ported):
    smoke = json.loads((ported / "smoke.json").read_text())
    smoke["checks"][3] |= {"status": "failed", "detail": "out of memory | on <card>"}
    smoke["rows"][0]["diagnosis"] = [Attempt(name="in float32", outcome="it ran", worked=True).model_dump()]
    (ported / "smoke.json").write_text(json.dumps(smoke))
    card = model_card([str(ported)], "en")
    assert "Not everything worked: smoke: forward pass: out of memory \\| on &lt;card>" in card
    assert "| in float32 | passed | it ran |" in card
    assert "Nothing failed" not in card


def test_runs_of_two_models_are_refused_and_so_are_runs_without_a_model(ported):
    with pytest.raises(InputError, match=r"The runs are of several models \(InternViT-6B-224px, tiny-internvit\)"):
        model_card([str(ported), str(EXAMPLE)], "en")
    (ported / "bare").mkdir()
    write(SmokeRecord(started=""), ported / "bare" / "smoke.json")
    with pytest.raises(InputError, match="there is nothing to write a card of"):
        model_card([str(ported / "bare")], "en")


def test_every_text_has_the_same_values_in_both_languages():
    for key, (english, chinese) in TEXTS.items():
        assert english
        assert set(re.findall(r"{\w+}", english)) == set(re.findall(r"{\w+}", chinese)), key


def test_the_command_writes_the_card_to_a_file_or_the_terminal(ported, tmp_path):
    shown = CliRunner().invoke(main, ["card", str(ported), "--lang", "zh"])
    assert (shown.exit_code, shown.output) == (0, model_card([str(ported)], "zh"))
    assert CliRunner().invoke(main, ["card", str(ported), "--out", str(tmp_path / "card.md")]).exit_code == 0
    assert (tmp_path / "card.md").read_text() == model_card([str(ported)], "en")


@pytest.mark.parametrize(
    "words", [["nowhere"], [], ["--lang", "fr", str(EXAMPLE)], [str(EXAMPLE), "--out", "no/such/folder/card.md"]]
)
def test_bad_input_ends_with_exit_code_2(words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["card", *words])
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
