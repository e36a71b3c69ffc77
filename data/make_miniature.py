"""Make data/digits and data/tiny-internvit: a small InternViT, trained on scikit-learn's handwritten digits.

    python data/make_miniature.py

The usual first 80 % of the 1,797 digits are for training, the last 20 % are written to data/digits as 8 x 8 pixel PNG files.
A small convolutional network, which needs fewer images to learn from, is trained first and teaches the transformer on distorted
images (distillation). The weights are stored as the published model's are: config.json, preprocessor_config.json, two .bin shards
in bfloat16 and an index; the classification head lies beside them in classification_head.safetensors.
"""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn
from tqdm import trange

from ivit_helpers.images import IMAGENET_MEAN, IMAGENET_STD, ImageTransform, class_folders, read
from ivit_helpers.kernels import FUSED
from ivit_helpers.network import SHAPES, ClassificationHead, InternViT

HERE = Path(__file__).resolve().parent
CONFIG = SHAPES["tiny-224"]
BATCH = 32


@dataclass(frozen=True)
class Stage:
    """One stage of the training."""

    epochs: int
    share: float
    """of the patches that each image keeps: a third trains three times as fast, all of them are needed for the last points"""
    distortion: float
    peak_lr: float


STAGES = (Stage(60, 0.3, 1.0, 1e-3), Stage(12, 1.0, 0.6, 4e-4))
CLASSES = [str(digit) for digit in range(10)]
PUBLISHED_CONFIG = {
    "architectures": ["InternVisionModel"],
    "model_type": "intern_vit_6b",
    "hidden_size": CONFIG.hidden_size,
    "num_hidden_layers": CONFIG.num_hidden_layers,
    "num_attention_heads": CONFIG.num_attention_heads,
    "intermediate_size": CONFIG.intermediate_size,
    "image_size": CONFIG.image_size,
    "patch_size": CONFIG.patch_size,
    "num_channels": CONFIG.num_channels,
    "hidden_act": "gelu",
    "qk_normalization": CONFIG.qk_normalization,
    "qkv_bias": CONFIG.qkv_bias,
    "layer_norm_eps": CONFIG.layer_norm_eps,
    "initializer_factor": 0.1,
    "initializer_range": 1e-10,
    "drop_path_rate": 0.0,
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "use_flash_attn": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.32.0",
}
PUBLISHED_PROCESSOR = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": list(IMAGENET_MEAN),
    "image_std": list(IMAGENET_STD),
    "resample": 3,
    "size": 224,
}


def pictures() -> tuple[list[Image.Image], list[int]]:
    """All digits as 8-bit grey images, in scikit-learn's order, and their labels."""
    digits = load_digits()
    grey = (digits.images * 255 / 16).round().astype(np.uint8)
    return [Image.fromarray(image) for image in grey], [int(label) for label in digits.target]


def write_held_out(images: list[Image.Image], labels: list[int], first: int) -> None:
    """Write the images from number `first` on to data/digits/<label>/<number>.png."""
    shutil.rmtree(HERE / "digits", ignore_errors=True)
    for number, (image, label) in enumerate(zip(images[first:], labels[first:], strict=True), start=first):
        path = HERE / "digits" / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, optimize=True)


def jittered(pixels: Tensor, strength: float = 1.0) -> Tensor:
    """Rotate, scale, shear, shift and bend each image (B, C, H, W) a little, as another hand would have written it."""
    count = len(pixels)
    angle = (torch.rand(count) - 0.5) * 2 * math.radians(15) * strength
    scale = 1 + (torch.rand(count, 2) - 0.5) * 0.3 * strength
    shear = (torch.rand(count) - 0.5) * 0.5 * strength
    shift = (torch.rand(count, 2) - 0.5) * 0.18 * strength
    first = torch.stack([scale[:, 0] * angle.cos(), shear - angle.sin(), shift[:, 0]], dim=1)
    second = torch.stack([angle.sin(), scale[:, 1] * angle.cos(), shift[:, 1]], dim=1)
    grid = F.affine_grid(torch.stack([first, second], dim=1), list(pixels.shape), align_corners=False)
    bend = F.interpolate(0.05 * strength * torch.randn(count, 2, 4, 4), size=pixels.shape[-1], mode="bicubic", align_corners=True)
    return F.grid_sample(pixels, grid + bend.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)


def small(pixels: Tensor) -> Tensor:
    """What the teacher sees of pixel values (B, 3, 224, 224): one channel, 32 x 32."""
    return F.avg_pool2d(pixels[:, :1], 7)


def trained_teacher(pixels: Tensor, labels: Tensor, epochs: int = 30) -> nn.Module:
    """A small convolutional network on the same images: small pixels (B, 1, 32, 32) -> logits (B, 10)."""
    layers: list[nn.Module] = []
    for channels, width in [(1, 32), (32, 64), (64, 64)]:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    teacher = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(1024, len(CLASSES)))
    optimiser = torch.optim.AdamW(teacher.parameters(), lr=3e-3, weight_decay=0.02)
    steps, images = len(pixels) // 64, small(pixels)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=epochs * steps)
    for _ in trange(epochs, desc="teacher", unit="epoch"):
        for batch in torch.randperm(len(pixels)).split(64)[:steps]:
            loss = F.cross_entropy(teacher(jittered(images[batch])), labels[batch], label_smoothing=0.03)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return teacher.eval()


def logits_of_some_patches(network: InternViT, head: ClassificationHead, pixels: Tensor, share: float) -> Tensor:
    """Logits from a random share of the patches: regularises, and costs as much less."""
    tokens = network.embeddings(pixels)
    patches = tokens.shape[1] - 1
    kept = 1 + torch.randperm(patches)[: int(share * patches)]
    return head(network.encoder(torch.cat([tokens[:, :1], tokens[:, kept]], dim=1)))  # type: ignore[no-any-return]


def initialised() -> tuple[InternViT, ClassificationHead]:
    """Usual transformer initialisation: truncated normal 0.02, layer scale 0.1."""
    network, head = InternViT(CONFIG, FUSED), ClassificationHead(CONFIG.hidden_size, len(CLASSES))
    for name, parameter in network.named_parameters():
        if name.endswith(("ls1", "ls2")):
            torch.nn.init.constant_(parameter, 0.1)
        elif parameter.ndim > 1:
            torch.nn.init.trunc_normal_(parameter, std=0.02)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    return network, head


def train(network: InternViT, head: ClassificationHead, teacher: nn.Module, pixels: Tensor, labels: Tensor, stage: Stage) -> None:
    """AdamW with a one-cycle schedule, on distorted images, towards the teacher's answers and the labels."""
    parameters = [*network.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=stage.peak_lr, weight_decay=0.05, betas=(0.9, 0.98))
    steps = len(pixels) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, stage.peak_lr, total_steps=stage.epochs * steps, pct_start=0.15)
    progress = trange(stage.epochs, desc=f"{stage.share:.0%} of the patches", unit="epoch")
    for _ in progress:
        losses = []
        for batch in torch.randperm(len(pixels)).split(BATCH)[:steps]:
            seen = jittered(pixels[batch], stage.distortion)
            with torch.no_grad():
                taught = teacher(small(seen)).softmax(-1)
            logits = logits_of_some_patches(network, head, seen, stage.share)
            loss = 0.7 * F.cross_entropy(logits, taught) + 0.3 * F.cross_entropy(logits, labels[batch])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        progress.set_postfix(loss=f"{np.mean(losses):.3f}")


def write_model(network: InternViT, head: ClassificationHead) -> None:
    """Write the published folder's files: two shards in bfloat16, an index, both configs, and the head in float32."""
    folder = HERE / "tiny-internvit"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tensors = {name: tensor.detach().bfloat16() for name, tensor in network.state_dict().items()}
    names = list(tensors)
    shards = [names[: len(names) // 2], names[len(names) // 2 :]]
    where = {}
    for number, shard in enumerate(shards, start=1):
        file = f"pytorch_model-{number:05d}-of-{len(shards):05d}.bin"
        torch.save({name: tensors[name].clone() for name in shard}, folder / file)
        where |= dict.fromkeys(shard, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": where}
    for name, content in [
        ("pytorch_model.bin.index.json", index),
        ("config.json", PUBLISHED_CONFIG),
        ("preprocessor_config.json", PUBLISHED_PROCESSOR),
    ]:
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    save_file(head.state_dict(), folder / "classification_head.safetensors", metadata={"classes": json.dumps(CLASSES)})


def held_out_accuracy(network: InternViT, head: ClassificationHead) -> float:
    """Top-1 on data/digits in float32, the backbone's weights rounded to bfloat16 as they are stored."""
    digits, transform = class_folders(HERE / "digits"), ImageTransform()
    for parameter in network.parameters():
        parameter.data = parameter.data.bfloat16().float()
    pixels = torch.stack([transform(read(path)) for path in digits.paths])
    with torch.inference_mode():
        found = torch.cat([head(network(batch)).argmax(-1) for batch in pixels.split(BATCH)])
    return float((found == torch.tensor(digits.labels)).float().mean())


@click.command()
@click.option("--seed", default=0, show_default=True)
def main(seed: int) -> None:
    """Write data/digits, train, write data/tiny-internvit."""
    torch.manual_seed(seed)
    images, labels = pictures()
    first = int(0.8 * len(images))
    write_held_out(images, labels, first)
    transform = ImageTransform()
    pixels = torch.stack([transform(image.convert("RGB")) for image in images[:first]])
    targets = torch.tensor(labels[:first])
    teacher = trained_teacher(pixels, targets)
    network, head = initialised()
    for stage in STAGES:
        train(network, head, teacher, pixels, targets, stage)
    network.eval()
    head.eval()
    write_model(network, head)
    click.echo(f"top-1 on the {len(images) - first} held-out digits: {held_out_accuracy(network, head):.2%}")


if __name__ == "__main__":
    main()
