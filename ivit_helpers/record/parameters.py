"""What each notebook may be given: typed, bounded, and described once, here."""

import ast
import difflib
import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ivit_helpers.device.selection import may_be_wanted
from ivit_helpers.device.several import read_devices
from ivit_helpers.errors import InputError

MARK = "# Parameters"
"""First line of the cells whose names count as parameters: papermill writes it above what it injects."""


def _from_text(value: Any) -> Any:
    """A list, number or truth value as papermill's command line passes it on: as text. Anything else stays as it is."""
    if isinstance(value, tuple):
        return list(value)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except RecursionError:
        return value
    except ValueError:
        return [_from_text(part.strip()) for part in value.strip("[]").split(",")] if "," in value else value


def _as_list(value: Any) -> Any:
    """One item where a list is meant."""
    value = _from_text(value)
    return [value] if isinstance(value, (int, str)) and not isinstance(value, bool) else value


def _as_list_or_auto(value: Any) -> Any:
    return value if value == "auto" else _as_list(value)


def _known_device(value: str) -> str:
    if may_be_wanted(value):
        return value
    raise ValueError("no such device")


def _several_devices(value: str) -> str:
    if value:
        read_devices(value)
    return value


def _as_text(value: Any) -> Any:
    """A count of devices, which papermill's command line passes on as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Devices = Annotated[str, BeforeValidator(_as_text), AfterValidator(_several_devices)]
SEVERAL_DEVICES = (
    'several cards at once, a process each: a count as "8", "npu:0-7", "cuda:0,1", "npu:0-3,6", or "cpu:2" for processes on the CPU; '
    "empty: the one that `device` names"
)
Whole = Annotated[int, BeforeValidator(_from_text)]
Truth = Annotated[bool, BeforeValidator(_from_text)]
Sizes = Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=1)]
Seconds = Annotated[float, BeforeValidator(_from_text)]


def _full_name(value: Any) -> Any:
    """What "transformers" meant before there were two of it."""
    return "transformers-sdpa" if value == "transformers" else value


Implementation = Annotated[
    Literal["fused", "graph", "compile", "plain", "transformers-sdpa", "transformers-eager", "transformers-compile"],
    BeforeValidator(_full_name),
]


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120
HOURS_6 = 6 * 3600
"""Seconds: 20 times what loading the 6B network and its float32 reference took on two cores"""
SECONDS_PER_IMAGE = 60
"""Five times what the 6B network takes on two cores"""


class AnyParameters(BaseModel):
    """What every notebook takes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    out: str = Field("", description="folder for the record and the tables; empty: reports/<UTC time>-<model>-<device>")

    @property
    def named_after(self) -> tuple[str, ...]:
        """The words after the time in the name of a run's folder."""
        raise NotImplementedError

    def longest_cell_s(self, images: int) -> int:
        """Seconds after which a cell of a batch run is taken to hang, and is stopped. images: that the run has to classify."""
        return HOURS_6 + SECONDS_PER_IMAGE * images


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
        "auto",
        description='"auto" (npu, then cuda, then cpu), "npu", "npu:1", "cuda", "cuda:1" or "cpu"',
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        description='"auto" (bfloat16 where the device multiplies it, else float32), "bfloat16", "float16" or "float32"',
    )
    verify: Truth = Field(False, description="SHA-256 of every weights file in the record, true or false")

    @property
    def named_after(self) -> tuple[str, ...]:
        return Path(self.model).name or self.model, getattr(self, "devices", "") or self.device


class SmokeParameters(Parameters):
    """Does it run, and is it right?"""

    image_path: str = Field("", description="an image file to classify; empty: an embedded image")
    batch_size: Whole = Field(
        8, ge=1, le=4096, description="images in the synthetic batch, a whole number from 1 to 4096"
    )
    warmup: Whole = Field(3, ge=0, le=1000, description="untimed calls after the first, a whole number from 0 to 1000")


class BenchmarkParameters(Parameters):
    """How fast, how close to the limit, against whom?"""

    batch_sizes: Annotated[Sizes | Literal["auto"], BeforeValidator(_as_list_or_auto)] = Field(
        [1, 4, 8],
        description='batch sizes to sweep, a list of whole numbers from 1 to 4096, or "auto": powers of two up to the largest batch that '
        "fits, which is found first",
    )
    implementations: Annotated[list[Implementation], BeforeValidator(_as_list)] = Field(
        ["fused", "plain", "transformers-sdpa"],
        min_length=1,
        description='what to compare, a list of "fused" (this device\'s fused operators), "graph" (the same, captured as a graph), '
        '"compile" (the same, by torch.compile), "plain", "transformers-sdpa", "transformers-eager" and '
        '"transformers-compile"; the first is the one reported on',
    )
    devices: Devices = Field("", description=SEVERAL_DEVICES)
    warmup: Whole = Field(5, ge=0, le=1000, description="untimed calls after the first, a whole number from 0 to 1000")
    repeats: Whole = Field(
        64,
        ge=3,
        le=100_000,
        description="least timed calls of each configuration, in three windows, a whole number from 3 to 100000; "
        "more windows follow while these disagree",
    )
    seconds: Seconds = Field(
        10.0,
        gt=0,
        le=86_400,
        description="seconds after which these three windows end early, with one call each at least",
    )

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
    head: str = Field("", description="a classification head, .pth or .safetensors; empty: the model folder's own")
    labels: str = Field(
        "", description="a text file of labels for a flat folder, or ReaL's real.json; empty if the layout has labels"
    )
    class_names: str = Field(
        "",
        description="a text file with the names of the model's classes, one a line in the order of its outputs; empty: the head's own",
    )
    classes: Literal["by-name", "by-order"] = Field(
        "by-name",
        description='how classes of the images are found among the model\'s: "by-name", or "by-order" where names differ',
    )
    image_set: Literal["folder", "imagenet-1k", "real", "v2", "a", "r", "sketch"] = Field(
        "folder",
        description='which classes and label rule: "folder" (the model\'s own), "imagenet-1k", "real", "v2", "a", "r" or "sketch"',
    )
    devices: Devices = Field("", description=SEVERAL_DEVICES)
    scaling: Truth = Field(
        False, description="with devices, let the first card answer some images alone, to compare with; true or false"
    )
    batch_size: Whole = Field(8, ge=1, le=4096, description="images a batch, a whole number from 1 to 4096")
    limit: Whole = Field(0, ge=0, description="evaluate that many images, drawn at random; 0: all of them")
    seed: Whole = Field(0, ge=0, description="seed of the draw and of synthetic images, a whole number")
    bad_limit: Whole = Field(
        0, ge=0, description="images that may be unreadable, missing or non-finite, a whole number"
    )
    reference: str = Field(
        "",
        description="the folder of another accuracy run over the same images, or its predictions CSV, to compare with; empty: none",
    )
    workers: Whole = Field(
        -1,
        ge=-1,
        le=256,
        description="processes that decode images, a whole number up to 256; 0: none, -1: as many as are useful",
    )


class ExploreParameters(Parameters):
    """What does the network see, and where do two devices part?"""

    image_path: str = Field("", description="an image file to look at; empty: an embedded image")
    head: str = Field("", description="a classification head, .pth or .safetensors; empty: the model folder's own")
    gallery: str = Field("", description="a folder of images to find neighbours in; empty: the embedded digits")
    limit: Whole = Field(80, ge=0, description="images of the gallery, drawn at random, a whole number; 0: all of them")
    seed: Whole = Field(0, ge=0, description="seed of the draw, a whole number")
    block: Whole = Field(0, ge=0, description="the block to look at, a whole number from 1; 0: the last one")
    attention_head: Whole = Field(
        0, ge=0, description="the attention head to look at, a whole number from 1; 0: the mean of all heads"
    )
    patch: Whole = Field(
        0,
        ge=0,
        description="the patch that others are compared with, a whole number from 1 in rows; 0: the one in the middle",
    )
    other: str = Field(
        "cpu",
        min_length=1,
        description='the other side: "cpu" (the reference on the CPU), or the states that another run saved, a file',
    )
    save: Truth = Field(
        False,
        description="keep the hidden states of the image in explore_states.safetensors, for `other` of another run, true or false",
    )


class CompareParameters(AnyParameters):
    """What is different between these runs, and did anything get worse?"""

    runs: Annotated[list[str], BeforeValidator(_as_list)] = Field(
        [],
        min_length=2,
        description="two or more runs, each a run's folder, its record (.json) or its page (.html); the others are compared with the first",
    )

    @property
    def named_after(self) -> tuple[str, ...]:
        return ("compare",)


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


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}? " if near else ""


def _sentence(notebook: str, kind: type[AnyParameters], problem: Mapping[str, Any]) -> str:
    """One pydantic problem as one sentence: the name, the value, what is allowed, the nearest known name."""
    name, known, given = str(problem["loc"][0]), list(kind.model_fields), _SHORT.repr(problem["input"])
    if problem["type"] == "extra_forbidden":
        return (
            f"{notebook} has no parameter {name} (given {given}): {_nearest(name, known)}It knows {', '.join(known)}."
        )
    return f"{notebook} cannot use {name}={given}. Allowed: {kind.model_fields[name].description}."


def validate(kind: type[P], given: Mapping[str, Any]) -> P:
    """Check what was given against one notebook's parameters; raises InputError with a sentence for each problem."""
    notebook = notebook_of(kind)
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        first = {
            problem["loc"][0]: problem for problem in reversed(error.errors(include_url=False))
        }  # one for each parameter
        raise InputError(
            "\n".join(_sentence(notebook, kind, problem) for problem in reversed(first.values()))
        ) from None


def _assigned(source: str) -> set[str]:
    """The names that a cell assigns."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:  # such a cell assigned nothing
        return set()
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def of_notebook(kind: type[P], namespace: Mapping[str, Any]) -> P:
    """Validate the parameters of the running notebook: its first code cell after the parameters calls this with globals().

    A name that papermill injected, or that was typed into the parameters cell, and that is no parameter is an error too; those
    are read from IPython's history of executed cells (`In`), since the namespace also holds whatever else was assigned.
    """
    names = set(kind.model_fields)
    for source in namespace.get("In", []):
        if source.startswith(MARK):
            names |= _assigned(source)
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
            which = " and ".join(notebooks)
            raise InputError(
                f"No parameter {name} (given {value!r}) in {which}: {_nearest(name, sorted(known))}Known: {', '.join(sorted(known))}."
            )
    return {
        notebook: validate(kind, {name: value for name, value in given.items() if name in kind.model_fields})
        for notebook in notebooks
        for kind in [MODEL_NOTEBOOKS[notebook]]
    }


def described(kind: type[AnyParameters]) -> list[tuple[str, str, str]]:
    """(name, default, description) of each parameter, for help texts."""
    return [(name, json.dumps(field.default), field.description or "") for name, field in kind.model_fields.items()]
