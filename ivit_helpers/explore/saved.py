"""The hidden states of an image in a file, so that another device can be compared with this one. Such a file is not trusted."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ivit_helpers.device.device import dtype_name
from ivit_helpers.errors import InputError, first_line
from ivit_helpers.explore.looking import Looked
from ivit_helpers.images.labelled_images import printable
from ivit_helpers.model.network import InternViTConfig
from ivit_helpers.weights.loading import Loaded

FILE = "states.safetensors"
KEY = "ivit"
HEADER_BYTES = 2**18
"""The header of 257 states takes 20 kB"""
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
ADVICE = "give the explore_states.safetensors of a run with save=true"
Text = Annotated[str, Field(max_length=300)]


class Origin(BaseModel):
    """What states are of, as the file says."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    image: Text
    checksum: Text
    model: Text
    device: Text
    dtype: Text
    peer_errors: list[Annotated[float, Field(ge=0, le=1e6)]] | None = Field(None, max_length=257)
    """Of transformers' network in that dtype, against the reference; None where its run had none"""

    def in_words(self) -> str:
        """What a reader calls it."""
        return f"{printable(self.device)} in {printable(self.dtype)} ({printable(self.model)}), saved by another run"


def name_of(block: int) -> str:
    """How the state after a block is called in a file."""
    return f"after.{block:03d}"


def packed(states: Sequence[Tensor], looked: Looked, loaded: Loaded, peer_errors: Sequence[float] | None) -> bytes:
    """A file of the states (1, N, C) of an image after the embeddings and after every block."""
    origin = Origin(
        image=looked.name[-300:], checksum=looked.checksum, model=loaded.checkpoint.name[-300:], device=loaded.device.name[-300:],
        dtype=dtype_name(loaded.dtype), peer_errors=None if peer_errors is None else list(peer_errors),
    )  # fmt: skip
    tensors = {name_of(block): state[0].contiguous() for block, state in enumerate(states)}
    content: bytes = safetensors.torch.save(tensors, {KEY: origin.model_dump_json()})
    return content


def origin_of(file: str) -> Origin:
    """What a file of states says of itself. Raises InputError where it is not such a file; reads no values."""
    path = _place(file)
    try:
        with path.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
        if length > HEADER_BYTES:
            raise InputError(
                f"other={printable(file)!r} has a header of {length:,} bytes, which no run writes: {ADVICE}."
            )
        with safe_open(path, framework="pt") as opened:
            written = (opened.metadata() or {}).get(KEY, "")
        return Origin.model_validate(json.loads(written))
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError, ValidationError) as error:
        raise InputError(
            f"other={printable(file)!r} holds no states of a run ({first_line(error)[:200]}): {ADVICE}."
        ) from None


def _place(file: str) -> Path:
    try:
        path = Path(file).expanduser()
        regular = path.is_file()  # opening a pipe would wait for ever
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"other={printable(file)!r} cannot be a path ({error}): {ADVICE}.") from None
    if not regular:
        what = "is not a file" if path.exists() else "does not exist"
        raise InputError(f'other={printable(file)!r} {what}: {ADVICE}, or "cpu".')
    return path


def saved_states(file: str, looked: Looked, config: InternViTConfig) -> tuple[Origin, list[Tensor]]:
    """The states (1, N, C) after the embeddings and after every block, on the CPU.

    Raises InputError where they are of another image, or of a network of another shape.
    """
    origin = origin_of(file)
    if origin.checksum != looked.checksum:
        raise InputError(
            f"other={printable(file)!r} is of the image {printable(origin.image)} ({printable(origin.checksum)}), and this one is "
            f"{looked.name} ({looked.checksum}): give both runs the same image, and a processor with the same steps."
        )
    shape = [config.tokens, config.hidden_size]
    wanted = [name_of(block) for block in range(config.num_hidden_layers + 1)]
    try:
        with safe_open(_place(file), framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  it is not a mapping
            fits = sorted(slices) == wanted and all(
                one.get_shape() == shape and one.get_dtype() in DTYPES for one in slices.values()
            )
            if not fits:
                here = f"{len(wanted)} states of {shape[0]} by {shape[1]}"
                raise InputError(
                    f"other={printable(file)!r} is of another network than this one, which has {here}: {ADVICE}."
                )
            return origin, [opened.get_tensor(name)[None] for name in wanted]
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"other={printable(file)!r} cannot be read ({first_line(error)[:200]}): {ADVICE}.") from None
