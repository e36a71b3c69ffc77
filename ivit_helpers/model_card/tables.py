"""The tables of the card: rows of texts, each number from a record and formatted once, here."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ivit_helpers.model_card.reading import ON_DEVICE, kinds, readable, status_of
from ivit_helpers.record.record import AccuracyRecord, BenchmarkRecord, ModelRecord, SmokeRecord
from ivit_helpers.record.rows import AccuracyRow, ModelFacts, TimingRow
from ivit_helpers.report.table import NOTHING, number

AGREES = "agreement with the reference"
MACHINE = ("device", "device_memory_bytes", "torch", "torch-npu", "transformers", "timm", "cann", "driver", "python")
"""First of what describes a machine; the rest follows as it is in the record"""
Rows = list[list[str]]


class Tables:
    """The tables whose words depend on the language. text: gives a text by its key, with the values that it names."""

    def __init__(self, text: Callable[..., str]) -> None:
        self.text = text

    def machines(self, records: Sequence[ModelRecord]) -> list[dict[str, Any]]:
        """Each machine once, with the models as they were named there."""
        found: list[dict[str, Any]] = []
        for record in records:
            known = next((one for one in found if one["environment"] == record.environment), None)
            if known is None:
                known = {
                    "environment": record.environment,
                    "device": record.device_name,
                    "rows": self._machine(record),
                    "models": [],
                }
                found.append(known)
            name = record.parameters.get("model")
            if name and name not in known["models"]:
                known["models"].append(name)
        return found

    def _machine(self, record: ModelRecord) -> Rows:
        described = record.environment
        order = [*(name for name in MACHINE if name in described), *(name for name in described if name not in MACHINE)]
        rows = [[self._name(name), readable(name, described[name])] for name in order]
        return rows + ([["ivit-helpers", record.provenance.kit]] if record.provenance else [])

    def _name(self, name: str) -> str:
        known = ("device", "device_memory_bytes", "host", "host_cores", "host_memory_bytes", "torch", "cann", "driver")
        return self.text(name) if name in known else name

    def configuration(self, model: ModelFacts) -> Rows:
        """What decides the network, by the names of config.json."""
        named = {
            "architectures": ", ".join(model.architectures or []),
            "model_type": model.model_type,
            "num_hidden_layers": model.layers,
            "hidden_size": model.hidden_size,
            "num_attention_heads": model.heads,
            "intermediate_size": model.intermediate_size,
            "image_size": model.image_size,
            "patch_size": model.patch_size,
            "torch_dtype": model.stored_dtype,
            self.text("these_runs_dtype"): model.dtype,
        }
        return [[name, str(value)] for name, value in named.items() if value]

    def modules(self, model: ModelFacts) -> Rows:
        """What the network is made of."""
        return [
            ["InternVisionEmbeddings", self.text("embeddings")],
            ["InternVisionEncoder", self.text("encoder", layers=model.layers)],
            ["InternAttention", self.text("attention_module")],
            ["InternMLP", self.text("mlp")],
        ]

    def adaptation(self, model: ModelFacts, smoke: Sequence[SmokeRecord]) -> Rows:
        """What is done for the device, beside what the published code does."""
        kind = next((str(record.environment.get("device_type")) for record in smoke), "device")
        checked: Mapping[str, str] = {
            key: self.text(status_of(smoke, key)) for key in ("weights", "forward pass", "features", "fused attention")
        }
        attention = status_of(smoke, "fused attention")
        return [
            [self.text("move"), "`model.cuda()`", f'`model.to("{kind}")`', checked["weights"]],
            [self.text("inputs"), "`pixel_values.cuda()`", f'`pixel_values.to("{kind}")`', checked["forward pass"]],
            [self.text("format"), "BF16", model.dtype, checked["features"]],
            ["Flash Attention", self.text("no_flash"), self.text("kernels_here", kernels=model.kernels),
             self.text("passed" if attention == "missing" and status_of(smoke, "forward pass") == "passed" else attention)],
            [self.text("drop_path"), self.text("drop_path_there"), self.text("drop_path_here"), checked["weights"]],
        ]  # fmt: skip

    def smoke(self, record: SmokeRecord) -> dict[str, Any]:
        """The checks of a smoke run, and its key lines."""
        rows = [[self._check(one.name), self.text(one.status), one.detail] for one in record.checks]
        return {"device": record.device_name, "checks": rows, "log": self._log(record)}

    def _check(self, name: str) -> str:
        try:
            return self.text(f"check:{name}")
        except KeyError:  # a kernel's, for example, whose name is a term of the field
            return name

    def _log(self, record: SmokeRecord) -> list[str]:
        model, lines = record.model, []
        for row in record.rows:
            lines += [f"[Config] device={record.device_name}, batch_size={row.batch_size}, dtype={row.dtype}"]
        if model:
            lines += [
                f"[Load] hidden_size={model.hidden_size}, num_classes={model.classes}, shards={model.shards}, seconds={model.load_seconds}"
            ]
        for row in record.rows:
            lines += [f"[First call] elapsed={row.first_call_s:.3f}s"] if row.first_call_s is not None else []
            if row.latency_ms and row.latency_ms.p50 is not None:
                lines += [f"[Result] elapsed={row.latency_ms.p50 / 1e3:.3f}s, throughput={row.images_per_s:.2f} img/s"]
            lines += [f"[Error] {row.error}"] if row.error else []
        return lines + [f"[Features] {one.detail}" for one in record.checks if one.name == "features"]

    def performance(self, records: Sequence[SmokeRecord | BenchmarkRecord], *, several: bool) -> dict[str, Any] | None:
        """Every configuration of the benchmarks, and of the smoke runs where there is no benchmark; None where nothing was timed."""
        benchmarks: list[SmokeRecord | BenchmarkRecord] = [
            record for record in records if isinstance(record, BenchmarkRecord)
        ]
        used = benchmarks or list(records)
        rows = [
            self._timing(record, row, several=several)
            for record in used
            for row in record.rows
            if row.was_measured or row.error
        ]
        if not rows:
            return None
        headings = (
            "implementation",
            "dtype",
            "batch",
            "throughput",
            "interval",
            "ms",
            "steady",
            "peak",
            "error",
            "failed_with",
        )
        table = [["" if cell == NOTHING else cell for cell in row] for row in rows]
        names = ([self.text("device_column")] if several else []) + [self.text(heading) for heading in headings]
        kept = [place for place in range(len(names)) if any(row[place] for row in table)]
        return {
            "headings": [names[place] for place in kept],
            "rows": [[row[place] or NOTHING for place in kept] for row in table],
        }

    def _timing(self, record: ModelRecord, row: TimingRow, *, several: bool) -> list[str]:
        error = getattr(row, "relative_error", None)
        low, high = row.images_per_s_low, row.images_per_s_high
        return ([record.device_name] if several else []) + [
            row.implementation,
            row.dtype,
            str(row.batch_size),
            number(row.images_per_s),
            NOTHING if low is None or high is None else f"{low:.2f} – {high:.2f}",
            number(row.ms_per_image),
            NOTHING if row.steady is None else self.text("yes" if row.steady else "no"),
            NOTHING if row.peak_memory_bytes is None else readable("bytes", row.peak_memory_bytes),
            NOTHING if error is None else f"{error:.1e}",
            row.error or NOTHING,
        ]

    def accuracy(self, record: AccuracyRecord) -> dict[str, Any]:
        """How an accuracy run was made, and what it found. A run claims an accuracy where labels and a trained head were there."""
        row, model = record.rows[0], record.model
        trained = bool(model and model.head_is_trained)
        setting = [
            [self.text("tool"), f"`{record.provenance.command}`" if record.provenance else "`ivit run accuracy`"],
            [self.text("device_column"), record.device_name],
            [self.text("set"), row.set],
            [self.text("images"), f"{row.images:,}"],
            [self.text("scored"), f"{row.scored:,}"],
            [self.text("batch_size"), str(record.parameters.get("batch_size", NOTHING))],
            [self.text("dtype"), model.dtype if model else NOTHING],
            [self.text("head"), f"{self.text('trained' if trained else 'random')}: {model.head if model else NOTHING}"],
        ]
        return {"setting": setting, "results": self._found(row), "claimed": trained and bool(row.scored)}

    def _found(self, row: AccuracyRow) -> Rows:
        tops = (("Top-1", row.top1, row.top1_low, row.top1_high), ("Top-5", row.top5, row.top5_low, row.top5_high))
        rows = [
            [name, f"{share:.2%}", NOTHING if low is None or high is None else f"{low:.2%} – {high:.2%}"]
            for name, share, low, high in tops
            if share is not None
        ]
        if row.batch_seconds:
            mean, median = statistics.fmean(row.batch_seconds), statistics.median(row.batch_seconds)
            rows += [
                [self.text("mean_batch"), f"{1e3 * mean:.1f} ms", NOTHING],
                [self.text("median_batch"), f"{1e3 * median:.1f} ms", NOTHING],
            ]
        return rows

    def hardware(self, records: Sequence[ModelRecord]) -> Rows:
        """What the runs were seen to take, beside what the machine had."""
        loads = [record.model for record in records if record.model]
        rows = [row for record in records if isinstance(record, SmokeRecord | BenchmarkRecord) for row in record.rows]
        on_card = any(not kind.uses_host_memory for kind in kinds(records))
        peaks = [row.peak_memory_bytes for row in rows if row.peak_memory_bytes]
        host = [model.load_host_peak_bytes for model in loads if model.load_host_peak_bytes]
        card = (
            [*peaks, *(model.load_device_peak_bytes for model in loads if model.load_device_peak_bytes)]
            if on_card
            else []
        )
        described = records[0].environment
        return [
            [self.text("cards"), self.text("one"), self.text("one")],
            *(
                [[self.text("device_memory"), self._bytes(card), self._bytes([described.get("device_memory_bytes")])]]
                if on_card
                else []
            ),
            [
                self.text("host_memory"),
                self._bytes(host if on_card else host + peaks),
                self._bytes([described.get("host_memory_bytes")]),
            ],
        ]

    def _bytes(self, sizes: Sequence[int | None]) -> str:
        known = [size for size in sizes if size]
        return readable("bytes", max(known)) if known else self.text("missing")

    def ladder(self, records: Sequence[ModelRecord]) -> list[str]:
        """What to try, one after the other, when a forward pass fails."""
        look = ", ".join(
            f"`{command}`" for command in [*(kind.status_command for kind in kinds(records)), "ivit check"] if command
        )
        return [
            self.text("step_again"),
            self.text("step_device", command=look),
            self.text("step_dtype", command="`-p dtype=float32`"),
            self.text("step_batch", command="`-p batch_size=1`"),
            self.text("step_fix"),
        ]

    def diagnosis(self, smoke: Sequence[SmokeRecord]) -> Rows:
        """What a smoke run tried after a failure."""
        words = {True: "passed", False: "failed", None: "skipped"}
        attempts = [one for record in smoke for row in record.rows for one in row.diagnosis or []]
        return [[one.name, self.text(words[one.worked]), one.outcome] for one in attempts]

    def layout(self, name: str) -> str:
        """A line of the project's tree."""
        return f"├── {name:<16} {self.text(f'layout:{name}')}"

    def summary(
        self,
        smoke: Sequence[SmokeRecord],
        benchmarks: Sequence[BenchmarkRecord],
        accuracies: Sequence[AccuracyRecord],
        model: ModelFacts,
    ) -> Rows:
        """The result of each part."""
        rows = [
            [self.text("sum:operators"), self.text(status_of(smoke, ON_DEVICE))],
            [self.text("sum:weights"), self.text(status_of(smoke, "weights"))],
            [self.text("sum:forward pass", dtype=model.dtype), self.text(status_of(smoke, "forward pass"))],
            [self.text("sum:agreement"), self.text(status_of(smoke, AGREES))],
        ]
        parts: list[tuple[str, Sequence[ModelRecord]]] = [("sum:benchmark", benchmarks), ("sum:accuracy", accuracies)]
        return rows + [
            [self.text(key), ", ".join(self.text(one.status) for one in some) or self.text("missing")]
            for key, some in parts
        ]

    def conclusion(self, model: ModelFacts, records: Sequence[ModelRecord], devices: str, *, complete: bool) -> str:
        """What the statuses of all runs come to."""
        bad = [f"{record.notebook}: {record.reason}" for record in records if record.status in {"failed", "incomplete"}]
        if bad:
            return self.text("not_good", reasons="; ".join(bad))
        good = self.text("all_good", model=model.name, device=devices)
        whole = complete and all(record.status == "passed" for record in records)
        return good if whole else f"{good} {self.text('part_unjudged')}"
