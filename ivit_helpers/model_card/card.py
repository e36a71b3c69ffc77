"""Records of runs -> a model card in Markdown, as the hubs show it."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ivit_helpers.errors import InputError
from ivit_helpers.model.published import repository
from ivit_helpers.model_card import reading, tables
from ivit_helpers.model_card.texts import TEXTS, Language
from ivit_helpers.record.record import AccuracyRecord, BenchmarkRecord, ModelRecord, SmokeRecord
from ivit_helpers.record.rows import ModelFacts
from ivit_helpers.runs import read_run

TEMPLATE = Path(__file__).resolve().parent / "template"
LAYOUT = ("README.md", "pyproject.toml", "notebooks/", "ivit_helpers/", "data/", "reports/", "tests/", "tools/")
HUB = "https://huggingface.co/"


def in_one_line(value: object) -> str:
    """A text that is safe in a cell of a Markdown table: of one line, no HTML, no column."""
    text = " ".join(str(value).split())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def in_code(value: object) -> str:
    """A text that is safe as a line of a block of code."""
    return " ".join(str(value).split("\n")).replace("```", "'''")


def model_card(given: Sequence[str], language: Language) -> str:
    """The card of the runs that are named, as Markdown with YAML front matter.

    Raises InputError where a run cannot be read, where none of them loaded a model, and where they are of several models.
    """
    records = [record for name in given for record in read_run(name).records.values()]
    loaded = [record for record in records if record.model]
    if not loaded:
        raise InputError(
            f"No run of {', '.join(given)} loaded a model, so there is nothing to write a card of: give runs that did."
        )
    names = dict.fromkeys(record.model_name for record in loaded)
    if len(names) > 1:
        raise InputError(
            f"The runs are of several models ({', '.join(names)}), and a card is of one: give runs of one model."
        )

    def text(key: str, **values: object) -> str:
        return TEXTS[key][0 if language == "en" else 1].format(**values)

    environment = Environment(  # noqa: S701  the card is Markdown; `cell` escapes what comes from records
        loader=FileSystemLoader(TEMPLATE),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "cell": in_one_line,
        "code": in_code,
        "json": lambda value: json.dumps(value, ensure_ascii=False),
    }
    environment.globals["t"] = lambda key, **values: text(
        key, **{name: in_one_line(value) for name, value in values.items()}
    )
    card = environment.get_template("card.md.j2").render(_contents(loaded, records, language, tables.Tables(text)))
    return "\n".join(
        line
        for line, before in zip(card.split("\n"), ["", *card.split("\n")], strict=False)
        if line.strip() or before.strip()
    )


def _contents(
    loaded: Sequence[ModelRecord], records: Sequence[ModelRecord], language: Language, made: tables.Tables
) -> dict[str, Any]:
    """Everything that the template needs; what the records do not have is empty."""
    smoke = [record for record in records if isinstance(record, SmokeRecord)]
    benchmarks = [record for record in records if isinstance(record, BenchmarkRecord)]
    accuracies = [record for record in records if isinstance(record, AccuracyRecord) and record.rows]
    model = max(
        (record.model for record in loaded if record.model), key=lambda facts: len(facts.model_dump(exclude_none=True))
    )
    devices = dict.fromkeys(record.device_name for record in records)
    timed: list[SmokeRecord | BenchmarkRecord] = [*smoke, *benchmarks]
    base = repository(model.name).get("base_model", "")
    return {
        "front": _front(model, records, language),
        "model": model,
        "devices": ", ".join(devices),
        "parameters": f"{model.parameters:,}",
        "configuration": made.configuration(model),
        "base_model": base,
        "sources": [HUB + base] if base else [],
        "caveats": list(dict.fromkeys(caveat for record in records for caveat in record.caveats)),
        "machines": made.machines(records),
        "modules": made.modules(model),
        "adaptation": made.adaptation(model, smoke),
        "operators": reading.status_of(smoke, reading.ON_DEVICE),
        "fell_back": [name for record in smoke for row in record.rows for name in row.fell_back],
        "commands": _commands(records),
        "smoke": [made.smoke(record) for record in smoke],
        "performance": made.performance(timed, several=len(devices) > 1),
        "accuracy": [made.accuracy(record) for record in accuracies],
        "hardware": made.hardware(records),
        "weights_bytes": reading.readable("bytes", model.bytes),
        "largest_batch": next((record.frontier.largest for record in benchmarks if record.frontier), None),
        "packages": ", ".join(
            dict.fromkeys(
                f"{name} {version}" for record in records for name, version in reading.packages(record).items()
            )
        ),
        "ladder": made.ladder(records),
        "diagnosis": made.diagnosis(smoke),
        "layout": [made.layout(name) for name in LAYOUT],
        "files": list(dict.fromkeys(name for record in records for name in reading.files(record))),
        "summary": made.summary(smoke, benchmarks, accuracies, model),
        "conclusion": made.conclusion(
            model, records, ", ".join(devices), complete=bool(smoke and benchmarks and accuracies)
        ),
    }


def _front(model: ModelFacts, records: Sequence[ModelRecord], language: Language) -> dict[str, Any]:
    """What the hubs read; JSON is YAML too. A licence and a base model are given for published models only."""
    known = repository(model.name)
    kinds = [word for kind in reading.kinds(records) for word in (kind.kind, kind.family) if word]
    task = "image-classification" if model.head_is_trained else "image-feature-extraction"
    tags = ["internvit", "vision", *kinds, model.dtype]
    return {
        **({"license": known["license"]} if "license" in known else {}),
        "pipeline_tag": task,
        "library_name": "transformers",
        **({"base_model": known["base_model"]} if "base_model" in known else {}),
        "language": language,
        "tags": tags,
    }


def _commands(records: Sequence[ModelRecord]) -> dict[str, Any]:
    """How to check, to look at one image, to repeat these runs, and to install."""
    first = records[0].parameters
    words = shlex.join(
        word for name in ("model", "device") if name in first for word in ("-p", f"{name}={first[name]}")
    )
    extras = ",".join(kind.package_extra for kind in reading.kinds(records) if kind.package_extra)
    return {
        "check": f"ivit check {words}",
        "image": f"ivit run smoke {words} -p image_path=IMAGE",
        "runs": list(dict.fromkeys(record.provenance.command for record in records if record.provenance)),
        "install": f"pip install -e '.[{extras}]'" if extras else "pip install -e .",
    }
