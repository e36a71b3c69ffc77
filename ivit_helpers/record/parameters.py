"""What each notebook may be given: typed, bounded, and described once, here."""

import ast
import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ivit_helpers.device.selection import may_be_wanted
from ivit_helpers.device.several import read_devices
from ivit_helpers.errors import InputError

MARK = "# Parameters"
"""First line of the cells whose names count as parameters: papermill writes it above what it injects."""


def _as_list(value: Any) -> Any:
    """A list that was written as text, such as [1, 2] or 1,2 on a command line, or one item where a list is meant."""
    if isinstance(value, str):
        return [item.strip(" '\"") for item in value.strip("[] ").split(",")]
    return [value] if isinstance(value, int) else value


def _as_list_or_auto(value: Any) -> Any:
    return value if value == "auto" else _as_list(value)


def _known_device(value: str) -> str:
    if not may_be_wanted(value):
        raise ValueError("no such device")
    return value


def _known_devices(value: str) -> str:
    if value:
        read_devices(value)
    return value


DEVICES = (
    'several cards at once, a process each: a count as "8", "npu:0-7", "cuda:0,1", "npu:0-3,6", or "cpu:2" for '
    "processes on the CPU; empty: the one that `device` names"
)
HEAD = "a classification head, .pth or .safetensors; empty: the model folder's own"
WARMUP = "untimed calls after the first, a whole number from 0 to 1000"
IMPLEMENTATIONS = (
    'what to compare, a list of "fused" (this device\'s fused operators), "graph" (the same, captured as a graph), '
    '"compile" (the same, by torch.compile), "plain", "transformers-sdpa", "transformers-eager" and '
    '"transformers-compile"; the first is the one reported on'
)
Devices = Annotated[str, AfterValidator(_known_devices), Field(description=DEVICES)]
Head = Annotated[str, Field(description=HEAD)]
BatchSize = Annotated[int, Field(ge=1, le=4096)]
BatchSizes = Annotated[list[BatchSize], Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Calls = Annotated[int, Field(ge=0, le=1000, description=WARMUP)]
Implementation = Literal[
    "fused", "graph", "compile", "plain", "transformers-sdpa", "transformers-eager", "transformers-compile"
]
ImageSet = Literal["folder", "imagenet-1k", "real", "v2", "a", "r", "sketch"]
ByName = Literal["by-name", "by-order"]


class AnyParameters(BaseModel):
    """What every notebook takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    out: str = Field("", description="folder for the record and the tables; empty: reports/<UTC time>-<model>-<device>")

    def longest_cell_s(self, images: int) -> int:
        """Seconds after which a cell of a batch run is taken to hang. images: that the run has to classify.

        6 hours are 20 times, and a minute an image 5 times what the 6B network took on two cores.
        """
        return 6 * 3600 + 60 * images


class Parameters(AnyParameters):
    """What every notebook takes that runs the model."""

    model: str = Field(
        "tiny",
        min_length=1,
        description='"tiny" (embedded), "random:6b-224", "random:6b-448", "random:300m-448" or "random:tiny-224" '
        "(random weights, no download), the path of a folder (published, InternVL chat, "
        "transformers, timm or hub cache) or of an author's .pth file, or a hub id",
    )
    device: Annotated[str, AfterValidator(_known_device)] = Field(
        "auto", description='"auto" (npu, then cuda, then cpu), "npu", "npu:1", "cuda", "cuda:1" or "cpu"'
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        description='"auto" (bfloat16 if the device multiplies it, else float32), "bfloat16", "float16" or "float32"',
    )
    verify: bool = Field(False, description="SHA-256 of every weights file in the record, true or false")


class SmokeParameters(Parameters):
    """Does it run, and is it right?"""

    image_path: str = Field("", description="an image file to classify; empty: an embedded image")
    batch_size: BatchSize = Field(8, description="images in the synthetic batch, a whole number from 1 to 4096")
    warmup: Calls = 3


class BenchmarkParameters(Parameters):
    """How fast, how close to the limit, against whom?"""

    batch_sizes: Annotated[BatchSizes | Literal["auto"], BeforeValidator(_as_list_or_auto)] = Field(
        [1, 4, 8],
        description='batch sizes to sweep, a list of whole numbers from 1 to 4096, or "auto": powers of two up to the '
        "largest batch that fits, which is found first",
    )
    implementations: Annotated[list[Implementation], BeforeValidator(_as_list)] = Field(
        ["fused", "plain", "transformers-sdpa"], min_length=1, description=IMPLEMENTATIONS
    )
    devices: Devices = ""
    warmup: Calls = 5
    repeats: int = Field(64, ge=3, le=100_000, description="least timed calls, a whole number from 3 to 100000")
    seconds: float = Field(10.0, gt=0, le=86_400, description="after which timing ends early, above 0, up to 86400")

    def longest_cell_s(self, images: int) -> int:
        """Ten windows of each configuration, and as much again for its untimed calls, are added."""
        sizes = 13 if self.batch_sizes == "auto" else len(self.batch_sizes)  # powers of two up to 4096
        return super().longest_cell_s(images) + math.ceil(20 * self.seconds * sizes * len(self.implementations))


class AccuracyParameters(Parameters):
    """Does it still classify?"""

    data: str = Field(
        "digits",
        min_length=1,
        description="a folder of class folders, a flat folder with `labels`, parquet or tar files or their folder, "
        '"digits" (embedded) or "synthetic"',
    )
    head: Head = ""
    labels: str = Field("", description="a text file of labels for a flat folder, or ReaL's real.json; empty: none")
    class_names: str = Field("", description="a text file, one class of the model a line; empty: the head's own names")
    classes: ByName = Field("by-name", description='"by-name", or "by-order" where names differ from the model\'s')
    image_set: ImageSet = Field(
        "folder",
        description='which classes and label rule: "folder" (the model\'s own), "imagenet-1k", "real", "v2", "a", "r" '
        'or "sketch"',
    )
    devices: Devices = ""
    scaling: bool = Field(False, description="with devices, the first card also answers images alone; true or false")
    batch_size: BatchSize = Field(8, description="images a batch, a whole number from 1 to 4096")
    limit: Count = Field(0, description="evaluate that many images, drawn at random; 0: all of them")
    seed: Count = Field(0, description="seed of the draw and of synthetic images, a whole number")
    bad_limit: Count = Field(0, description="images that may be unreadable, missing or non-finite, a whole number")
    reference: str = Field("", description="another run's folder or predictions CSV, to compare with; empty: none")
    workers: int = Field(-1, ge=-1, le=256, description="processes that decode, up to 256; 0: none, -1: as useful")


class ExploreParameters(Parameters):
    """What does the network see, and where do two devices part?"""

    image_path: str = Field("", description="an image file to look at; empty: an embedded image")
    head: Head = ""
    gallery: str = Field("", description="a folder of images to find neighbours in; empty: the embedded digits")
    limit: Count = Field(80, description="images of the gallery, drawn at random, a whole number; 0: all of them")
    seed: Count = Field(0, description="seed of the draw, a whole number")
    block: Count = Field(0, description="the block to look at, a whole number from 1; 0: the last one")
    attention_head: Count = Field(0, description="the attention head, a whole number from 1; 0: the mean of all heads")
    patch: Count = Field(0, description="the patch to compare others with, a whole number from 1; 0: in the middle")
    other: str = Field("cpu", min_length=1, description='the other side: "cpu", or the states that another run saved')
    save: bool = Field(False, description="keep the hidden states in explore_states.safetensors, true or false")


class CompareParameters(AnyParameters):
    """What is different between these runs, and did anything get worse?"""

    runs: Annotated[list[str], BeforeValidator(_as_list)] = Field(
        [],
        min_length=2,
        description="two or more runs, each a folder, a record (.json) or a page (.html); the first is the baseline",
    )


MODEL_NOTEBOOKS: dict[str, type[Parameters]] = {
    "smoke": SmokeParameters,
    "benchmark": BenchmarkParameters,
    "accuracy": AccuracyParameters,
    "explore": ExploreParameters,
}
"""The notebooks that run the model: `ivit run` is for these"""
NOTEBOOKS: dict[str, type[AnyParameters]] = {**MODEL_NOTEBOOKS, "compare": CompareParameters}
P = TypeVar("P", bound=AnyParameters)


def notebook_of(kind: type[AnyParameters]) -> str:
    """The notebook that takes parameters of this kind."""
    return next(name for name, known in NOTEBOOKS.items() if known is kind)


def question(notebook: str) -> str:
    """What a notebook answers, in one sentence."""
    return (NOTEBOOKS[notebook].__doc__ or "").strip()


def _unknown(name: str, value: Any, notebooks: str, known: Iterable[str]) -> str:
    """The sentence on a name that is no parameter, with the nearest one that is."""
    near = difflib.get_close_matches(name, names := sorted(known), n=1, cutoff=0.5)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{notebooks} has no parameter {name} (given {value!r:.120}): {meant}Known: {', '.join(names)}."


def validate(kind: type[P], given: Mapping[str, Any]) -> P:
    """Check what was given against one notebook's parameters; raises InputError with a sentence for each problem."""
    notebook, fields = notebook_of(kind), kind.model_fields
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        names = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors())
        sentences = [
            f"{notebook} cannot use {name}={given.get(name, [])!r:.120}. Allowed: {fields[name].description}."
            if name in fields
            else _unknown(name, given[name], notebook, fields)
            for name in names
        ]
        raise InputError("\n".join(sentences)) from None


def of_notebook(kind: type[P], namespace: Mapping[str, Any]) -> P:
    """Validate the parameters of the running notebook, whose set-up cell hands its globals() on.

    A name in the parameters cell, or that papermill injected, and that is no parameter is an error too; those are
    read from IPython's history of cells (`In`), since the namespace also holds whatever else was assigned.
    """
    names = set(kind.model_fields)
    for source in namespace.get("In", []):
        if source.startswith(MARK):
            nodes = ast.walk(ast.parse(source))
            names |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return validate(kind, {name: namespace[name] for name in names if name in namespace})


def parse(given: Sequence[str]) -> dict[str, str]:
    """Split NAME=VALUE words of the command line; values stay text until a notebook's types are known."""
    pairs = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"-p {word} is not NAME=VALUE: write, for example, -p device=npu.")
        pairs[name] = value
    return pairs


def share_out(notebooks: Sequence[str], given: Mapping[str, Any]) -> dict[str, Parameters]:
    """Give each notebook the parameters it knows; a name that none of them knows is an error for all."""
    known = {name for notebook in notebooks for name in MODEL_NOTEBOOKS[notebook].model_fields}
    for name, value in given.items():
        if name not in known:
            raise InputError(_unknown(name, value, " or ".join(notebooks), known))
    kinds = {notebook: MODEL_NOTEBOOKS[notebook] for notebook in notebooks}
    return {
        notebook: validate(kind, {name: value for name, value in given.items() if name in kind.model_fields})
        for notebook, kind in kinds.items()
    }


def described(kind: type[AnyParameters]) -> list[tuple[str, str, str]]:
    """(name, default, description) of each parameter, for help texts."""
    return [(name, json.dumps(field.default), field.description or "") for name, field in kind.model_fields.items()]
