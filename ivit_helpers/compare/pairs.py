"""What of two runs can be compared: the same notebook, the same network, the same configuration."""

from collections.abc import Sequence

from ivit_helpers.compare.correctness import compare_answers, compare_errors, relative_errors
from ivit_helpers.compare.speed import compare_speed
from ivit_helpers.record.record import AccuracyRecord, BenchmarkRecord, ExploreRecord, ModelRecord
from ivit_helpers.record.rows import CompareRow, Difference, TimingRow, Unmatched
from ivit_helpers.report.table import facts
from ivit_helpers.runs import NamedRun

FACTS = (
    "name",
    "parameters",
    "layers",
    "hidden_size",
    "image_size",
    "dtype",
    "stored_dtype",
    "kernels",
    "head",
    "head_sha256",
    "sha256",
)
"""What of a model may make a difference; what loading took is none"""
NOT_SETTINGS = {"model", "out", "reference", "other", "save"}
BAD = {"failed", "incomplete"}


def same_network(first: ModelRecord, later: ModelRecord) -> bool:
    """Whether both computed the same thing for each image, whatever the weights."""
    one, two = first.model, later.model
    return (
        not one
        or not two
        or (one.parameters, one.flops_per_image, one.image_size)
        == (two.parameters, two.flops_per_image, two.image_size)
    )


def shared(first: NamedRun, later: NamedRun) -> list[tuple[ModelRecord, ModelRecord]]:
    """The records of the notebooks that both runs have, of the same network."""
    pairs = [(record, later.records[name]) for name, record in first.records.items() if name in later.records]
    return [pair for pair in pairs if same_network(*pair)]


def configurations(record: ModelRecord) -> dict[str, TimingRow]:
    """The timed configurations, by a name that is the same in every run."""
    if isinstance(record, AccuracyRecord | ExploreRecord):
        return {}
    rows: Sequence[TimingRow] = record.rows
    named = {"transformers": "transformers-sdpa"}  # its name in earlier versions
    return {
        f"{named.get(row.implementation, row.implementation)} at batch {row.batch_size} in {row.dtype}": row
        for row in rows
    }


def speeds(run: int, first: ModelRecord, later: ModelRecord) -> list[CompareRow]:
    """Every configuration that both runs measured, and those that the later run could not measure any more."""
    before, after = configurations(first), configurations(later)
    found = []
    for name, row in before.items():
        if row.was_measured and name in after and after[name].was_measured:
            compared = compare_speed(run, later.notebook, name, row, after[name])
            disturbed = _disturbed("first", first, row) or _disturbed("later", later, after[name])
            if disturbed:
                compared.outcome, compared.detail = "not judged", disturbed
            found.append(compared)
        elif row.was_measured and name in after and after[name].error:
            failed = f"it ran in the first run and fails now: {after[name].error}"
            found.append(
                CompareRow(run=run, kind="speed", notebook=later.notebook, name=name, unit="images/s", first=row.images_per_s, later=None,
                           outcome="worse", detail=failed)
            )  # fmt: skip
    return found


def _disturbed(which: str, record: ModelRecord, row: TimingRow) -> str:
    """Why a timing cannot be compared with one of another hour, in words; empty where it can."""
    busy = [
        check.detail
        for check in record.checks
        if check.name == "the machine was quiet" and check.deciding and check.status != "passed"
    ]
    if busy:
        return f"the machine was busy in the {which} run: {busy[0]}"
    unsteady = record.notebook == "smoke" and row.steady is False
    return (
        f"the timing of the {which} run did not settle, and a smoke run does not say whether the machine was busy"
        if unsteady
        else ""
    )


def answers(run: int, first: NamedRun, later: NamedRun) -> list[CompareRow]:
    """The accuracy of the two runs; empty unless both have it."""
    both = "accuracy" in first.records and "accuracy" in later.records
    return compare_answers(run, first, later) if both else []


def errors(run: int, first: ModelRecord, later: ModelRecord) -> list[CompareRow]:
    """Errors against the reference."""
    return compare_errors(run, first, later)


def ending(run: int, first: ModelRecord, later: ModelRecord) -> CompareRow:
    """How a notebook ended in both runs: worse where it fails now and did not then."""
    fell, rose = later.status in BAD and first.status not in BAD, first.status in BAD and later.status not in BAD
    outcome, words = (
        ("worse" if fell else "better" if rose else "no difference seen"),
        f"{first.status} -> {later.status}",
    )
    return CompareRow(
        run=run, kind="ending", notebook=later.notebook, name=f"{later.notebook} notebook", unit="", first=None, later=None,
        outcome=outcome, detail=f"{words}: {later.reason}" if later.reason else words,
    )  # fmt: skip


def _measured(run: NamedRun) -> list[str]:
    """Everything that a run measured and that could be compared, as notebook: name."""
    found = []
    for notebook, record in run.records.items():
        found += [f"{notebook}: {name}" for name, row in configurations(record).items() if row.was_measured]
        found += [f"{notebook}: error of {name}" for name in relative_errors(record)]
        if isinstance(record, AccuracyRecord):
            found += [f"{notebook}: {row.images:,} images of {row.set}" for row in record.rows]
    return found


def _reasons(run: NamedRun) -> dict[str, str]:
    """What a run says of the configurations that it could not measure."""
    named = {
        f"{notebook}: {name}": row
        for notebook, record in run.records.items()
        for name, row in configurations(record).items()
    }
    return {name: reason for name, row in named.items() if (reason := row.error or getattr(row, "unavailable", None))}


def unmatched(run: int, first: NamedRun, later: NamedRun) -> list[Unmatched]:
    """What only one of two runs has measured; what fails in the later run is not among it, because it is a row of `speeds`."""
    before, after = _measured(first), _measured(later)
    others = [
        name
        for name, record in first.records.items()
        if name in later.records and not same_network(record, later.records[name])
    ]
    another = f"the other run is of another network ({first.first.model_name} and {later.first.model_name})"
    failed = {
        f"{one.notebook}: {row.name}"
        for pair in shared(first, later)
        for one in pair[1:]
        for row in speeds(run, *pair)
        if row.later is None
    }
    found = [("first", name, _reasons(later).get(name)) for name in before if name not in {*after, *failed}]
    found += [("later", name, _reasons(first).get(name)) for name in after if name not in before]
    found += [("first", f"{name}: everything", another) for name in others]
    return [
        Unmatched.model_validate({"run": run, "name": name, "where": where, "why": why}) for where, name, why in found
    ]


def differences(runs: Sequence[NamedRun]) -> list[Difference]:
    """What is not the same in all runs: machine, versions, model, parameters of the notebooks that all of them have, load."""
    described = [
        _described(run, [name for name in runs[0].records if all(name in other.records for other in runs)])
        for run in runs
    ]
    names = dict.fromkeys(name for one in described for name in one)
    values = {name: [one.get(name) for one in described] for name in names}
    return [Difference(name=name, values=found) for name, found in values.items() if len(set(found)) > 1]


def _described(run: NamedRun, notebooks: Sequence[str]) -> dict[str, str]:
    first = run.first
    found = dict(facts(first.environment).pairs)
    if first.model:
        described = facts(first.model.model_dump(include=set(FACTS), exclude_none=True)).pairs
        found |= {f"model: {name}": value for name, value in described.items()}
    if first.provenance:
        found |= {"kit": first.provenance.kit, "commit": first.provenance.commit or ""}
    for name in notebooks:
        given = run.records[name].parameters
        found |= {f"{name}: {key}": str(value) for key, value in given.items() if key not in NOT_SETTINGS}
    benchmark = run.records.get("benchmark")
    if isinstance(benchmark, BenchmarkRecord) and benchmark.conditions:
        found["benchmark: share of the cores that other processes took"] = (
            f"{benchmark.conditions.others_cpu_share:.0%}"
        )
    return found
