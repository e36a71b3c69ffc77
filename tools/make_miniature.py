"""Make data/digits and data/tiny-internvit: a small InternViT, trained on scikit-learn's handwritten digits.

    python tools/make_miniature.py

The usual first 80 % of the 1,797 digits are for training, the last 20 % are written to data/digits as 8 x 8 pixel PNG files.
Three small convolutional networks, which need fewer images to learn from, are trained first. The transformer then learns to answer
as they do, on distorted images and on mixtures of two of them: so many pictures that it cannot learn them by heart (Beyer et al. 2022,
"Knowledge distillation: A good teacher is patient and consistent").

The weights are stored as the published model's are: config.json, preprocessor_config.json, two .bin shards in bfloat16 and an index;
the classification head lies beside them in classification_head.safetensors.
"""

import json
import math
import shutil

import click
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn
from tqdm import trange

from ivit_helpers.device.cpu import host
from ivit_helpers.images.folders import class_folders
from ivit_helpers.images.transform import IMAGENET_MEAN, IMAGENET_STD, ImageTransform, read_image
from ivit_helpers.model.kernels import fused
from ivit_helpers.model.network import SHAPES, ClassificationHead, InternViT
from ivit_helpers.paths import DATA

CONFIG = SHAPES["tiny-224"]
BATCH = 32
MIXED = 0.66  # of the images are mixtures of two
TEMPERATURE = 1.5
EPOCHS = 50
SHORT = 45  # epochs on one patch of each square of four, drawn anew for each image: four times as fast as all of them
PEAK_LEARNING_RATE = 1.5e-3
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
    shutil.rmtree(DATA / "digits", ignore_errors=True)
    for number, (image, label) in enumerate(zip(images[first:], labels[first:], strict=True), start=first):
        path = DATA / "digits" / str(label) / f"{number:04d}.png"
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
    bend = F.interpolate(
        0.05 * strength * torch.randn(count, 2, 4, 4), size=pixels.shape[-1], mode="bicubic", align_corners=True
    )
    return F.grid_sample(pixels, grid + bend.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)


def small(pixels: Tensor) -> Tensor:
    """What the teacher sees of pixel values (B, 3, 224, 224): one channel, 32 x 32."""
    return F.avg_pool2d(pixels[:, :1], 7)


def trained_teacher(pixels: Tensor, labels: Tensor, name: str, epochs: int = 30) -> nn.Module:
    """A small convolutional network on the same images: small pixels (B, 1, 32, 32) -> logits (B, 10)."""
    layers: list[nn.Module] = []
    for channels, width in [(1, 32), (32, 64), (64, 64)]:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    teacher = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(1024, len(CLASSES)))
    optimiser = torch.optim.AdamW(teacher.parameters(), lr=3e-3, weight_decay=0.02)
    steps, images = len(pixels) // 64, small(pixels)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=epochs * steps)
    for _ in trange(epochs, desc=name, unit="epoch"):
        for batch in torch.randperm(len(pixels)).split(64)[:steps]:
            loss = F.cross_entropy(teacher(jittered(images[batch])), labels[batch], label_smoothing=0.03)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return teacher.eval()


def some_patches(tokens: Tensor) -> Tensor:
    """Of tokens (B, 1 + G * G, C), the class token and one patch of each square of four: (B, 1 + G * G / 4, C)."""
    grid = torch.arange(CONFIG.grid**2).view(CONFIG.grid // 2, 2, CONFIG.grid // 2, 2)
    squares = grid.permute(0, 2, 1, 3).reshape(1, -1, 4).expand(len(tokens), -1, -1)
    drawn = 1 + squares.gather(2, torch.randint(4, (*squares.shape[:2], 1)))
    return torch.cat([tokens[:, :1], tokens.gather(1, drawn.expand(-1, -1, tokens.shape[-1]))], dim=1)


def positions() -> Tensor:
    """Sines and cosines of row and column of each patch (G * G, C) to begin with, so that near patches look alike from the start."""
    frequencies = 100 ** -torch.linspace(0, 1, CONFIG.hidden_size // 4 + 1)[:-1]
    angles = torch.arange(CONFIG.grid).outer(frequencies)
    waves = 0.5 * torch.cat([angles.sin(), angles.cos()], dim=1)  # (G, C / 2)
    rows, columns = torch.meshgrid(torch.arange(CONFIG.grid), torch.arange(CONFIG.grid), indexing="ij")
    return torch.cat([waves[rows.flatten()], waves[columns.flatten()]], dim=1)


def initialised() -> tuple[InternViT, ClassificationHead]:
    """Usual transformer initialisation: truncated normal 0.02, layer scale 0.3, sinusoidal positions."""
    network, head = InternViT(CONFIG, fused(host())), ClassificationHead(CONFIG.hidden_size, len(CLASSES))
    for name, parameter in network.named_parameters():
        if name.endswith(("ls1", "ls2")):
            torch.nn.init.constant_(parameter, 0.3)
        elif parameter.ndim > 1:
            torch.nn.init.trunc_normal_(parameter, std=0.02)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    network.embeddings.position_embedding.data[0, 1:] = positions()
    return network, head


def lesson(pixels: Tensor, teachers: list[nn.Module]) -> tuple[Tensor, Tensor]:
    """Distorted images, most of them mixed with another (B, 3, H, W), and the teachers' mean answer to each (B, classes)."""
    seen = jittered(pixels)
    share = torch.rand(len(seen), 1, 1, 1)
    share[torch.rand(len(seen)) > MIXED] = 1
    seen = share * seen + (1 - share) * seen.roll(1, 0)
    with torch.no_grad():
        answers = torch.stack([(teacher(small(seen)) / TEMPERATURE).softmax(-1) for teacher in teachers])
    return seen, answers.mean(0)


def optimiser_of(network: InternViT, head: ClassificationHead) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only."""
    named = [*network.named_parameters(), *head.named_parameters()]
    decayed = [parameter for name, parameter in named if parameter.ndim > 1 and "position" not in name]
    rest = [parameter for name, parameter in named if parameter.ndim == 1 or "position" in name]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], betas=(0.9, 0.98)
    )


def train(network: InternViT, head: ClassificationHead, teachers: list[nn.Module], pixels: Tensor) -> None:
    """Towards the teachers' answers, with a one-cycle schedule."""
    parameters = [*network.parameters(), *head.parameters()]
    optimiser, steps = optimiser_of(network, head), len(pixels) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, PEAK_LEARNING_RATE, total_steps=EPOCHS * steps, pct_start=0.1
    )
    progress = trange(EPOCHS, desc="student", unit="epoch")
    for epoch in progress:
        losses = []
        for batch in torch.randperm(len(pixels)).split(BATCH)[:steps]:
            seen, answers = lesson(pixels[batch], teachers)
            tokens = network.embeddings(seen)
            logits = head(network.encoder(some_patches(tokens) if epoch < SHORT else tokens))
            loss = F.kl_div((logits / TEMPERATURE).log_softmax(-1), answers, reduction="batchmean")
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        progress.set_postfix(loss=f"{np.mean(losses):.3f}")


def measure_statistics(network: InternViT, head: ClassificationHead, pixels: Tensor) -> None:
    """The BatchNorm's mean and variance from all training images at once; the running ones lag behind a network that learns."""
    with torch.inference_mode():
        features = torch.cat([head.pooled(network(jittered(batch))) for batch in pixels.split(BATCH)])
    head.norm.running_mean, head.norm.running_var = features.mean(0).clone(), features.var(0).clone()


def write_model(network: InternViT, head: ClassificationHead) -> None:
    """Write the published folder's files: two shards in bfloat16, an index, both configs, and the head in float32."""
    folder = DATA / "tiny-internvit"
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
    digits, transform = class_folders(DATA / "digits"), ImageTransform()
    for parameter in network.parameters():
        parameter.data = parameter.data.bfloat16().float()
    pixels = torch.stack([transform(read_image(path)) for path in digits.paths])
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
    teachers = [trained_teacher(pixels, targets, f"teacher {number}") for number in (1, 2, 3)]
    network, head = initialised()
    train(network, head, teachers, pixels)
    network.eval()
    head.eval()
    measure_statistics(network, head, pixels)
    write_model(network, head)
    click.echo(f"top-1 on the {len(images) - first} held-out digits: {held_out_accuracy(network, head):.2%}")


if __name__ == "__main__":
    main()
