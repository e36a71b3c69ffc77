"""Write random weights in the published folder's own format, at any size, without holding them in memory.

    python tools/make_random_checkpoint.py FOLDER                      # 6B, 11.8 GB: two .bin shards in bfloat16 and an index
    python tools/make_random_checkpoint.py FOLDER --safetensors

So loading, memory and damage can be tried at full size before the real weights are at hand. Every tensor is drawn from a seed of
its own, so both formats hold the same numbers; the answers mean nothing.
"""

import json
import mmap
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import click
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor
from torch.serialization import set_default_mmap_options, skip_data
from tqdm import tqdm

from ivit_helpers.model.network import SHAPES, InternViT, InternViTConfig
from ivit_helpers.weights.random_weights import normal_pool, random_tensor

DTYPE, SAFETENSORS_DTYPE = torch.bfloat16, "BF16"
Draw = Callable[[str], Tensor]


def write_bin(path: Path, like: dict[str, Tensor], draw: Draw) -> None:
    """One pickle shard: torch lays the file out with its storages left empty, then each is filled through a shared mapping."""
    with skip_data():
        torch.save({name: torch.empty(tensor.shape, dtype=DTYPE) for name, tensor in like.items()}, path)
    with set_default_mmap_options(mmap.MAP_SHARED):
        places = torch.load(path, mmap=True, weights_only=True)
    for name, place in places.items():
        place.copy_(draw(name))


def write_safetensors(path: Path, like: dict[str, Tensor], draw: Draw) -> None:
    """One safetensors shard: the length of the header, the header, the tensors one after the other."""
    header, end = {}, 0
    for name, tensor in like.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": SAFETENSORS_DTYPE, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in like:
            file.write(draw(name).flatten().view(torch.uint8).numpy())


def published_config(config: InternViTConfig) -> dict[str, object]:
    """config.json with the published keys that decide something."""
    kind = {"architectures": ["InternVisionModel"], "model_type": "intern_vit_6b", "torch_dtype": "bfloat16"}
    return {**kind, **asdict(config)}


def empty_tensors(config: InternViTConfig) -> dict[str, Tensor]:
    """Every tensor of the network by its published name, without data."""
    with torch.device("meta"):
        return InternViT(config).to(DTYPE).state_dict()


def counting(progress: "tqdm[None]", like: dict[str, Tensor]) -> Draw:
    """A function that draws the tensor of a name, the same for every format, and moves the progress bar."""
    numbers, pool = {name: number for number, name in enumerate(like)}, normal_pool().to(DTYPE)

    def draw(name: str) -> Tensor:
        tensor = random_tensor(name, like[name].shape, numbers[name], pool)
        progress.update(tensor.nbytes)
        return tensor

    return draw


def shards(like: dict[str, Tensor], largest: str, pattern: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(file name, its tensors) as save_pretrained would split them."""
    split = split_torch_state_dict_into_shards(like, max_shard_size=largest, filename_pattern=pattern)
    for file, names in split.filename_to_tensors.items():
        yield file, {name: like[name] for name in names}


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--shape", type=click.Choice(sorted(SHAPES)), default="6b-224", show_default=True)
@click.option("--safetensors", is_flag=True, help="Write safetensors shards in place of pickled ones.")
@click.option("--shard-size", default="10GB", show_default=True, help="Size that no shard exceeds.")
def main(folder: Path, shape: str, safetensors: bool, shard_size: str) -> None:
    """Write FOLDER: config.json, preprocessor_config.json, the shards and their index."""
    config, like = SHAPES[shape], empty_tensors(SHAPES[shape])
    stem, suffix, write = (
        ("model", "safetensors", write_safetensors) if safetensors else ("pytorch_model", "bin", write_bin)
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(published_config(config), indent=2))
    side = config.image_size
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": side, "crop_size": side, "resample": 3}))
    total, where = sum(tensor.nbytes for tensor in like.values()), {}
    with tqdm(total=total, desc=folder.name, unit="B", unit_scale=True) as progress:
        draw = counting(progress, like)
        for file, tensors in shards(like, shard_size, f"{stem}{{suffix}}.{suffix}"):
            write(folder / file, tensors, draw)
            where |= dict.fromkeys(tensors, file)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index, indent=1))


if __name__ == "__main__":
    main()
