"""A checkpoint -> weights in a network on a device."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ivit_helpers.device.cpu import host_peak, reset_host_peak, return_freed_memory
from ivit_helpers.device.device import Device, dtype_name
from ivit_helpers.errors import InputError
from ivit_helpers.model.kernel_check import KernelVerdict, trusted_kernels
from ivit_helpers.model.network import Classifier, InternViT
from ivit_helpers.record.progress import Progress
from ivit_helpers.record.rows import ModelFacts
from ivit_helpers.weights.files import check_values, open_weights, sha256
from ivit_helpers.weights.head import Head, random_head, read_head
from ivit_helpers.weights.names import head_names, ignored_names
from ivit_helpers.weights.random_weights import random_weights
from ivit_helpers.weights.sources import MINIATURE, Checkpoint


@dataclass(frozen=True)
class Loaded:
    """A network with its weights on a device, and the time and memory that loading took."""

    checkpoint: Checkpoint
    network: InternViT
    head: nn.Module
    """Last hidden state (B, N, C) -> logits (B, classes), on the device"""
    head_source: Head
    classes: tuple[str, ...]
    device: Device
    dtype: torch.dtype
    stored_dtypes: tuple[str, ...]
    """Empty for random weights"""
    ignored_tensors: int
    """Number of tensors in the authors' files that this network does not have"""
    sha256: Mapping[str, str]
    """By file name; empty unless it was asked for"""
    seconds: float
    host_peak_bytes: int | None
    device_peak_bytes: int | None
    kernel_verdicts: tuple[KernelVerdict, ...]
    fell_back: tuple[str, ...]
    """Operators that ran on the CPU because the device lacks them; torch_npu reports each of them once in a process"""

    @property
    def head_is_trained(self) -> bool:
        return self.head_source.file is not None

    @property
    def classifier(self) -> Classifier:
        return Classifier(self.network, self.head).eval()

    @property
    def parameters(self) -> int:
        return sum(tensor.numel() for tensor in self.network.state_dict().values())

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.network.state_dict().values())

    @property
    def stored_as(self) -> str:
        """The dtypes in the files, and the dtype in config.json if it is another one."""
        said = self.checkpoint.published.get("torch_dtype", self.checkpoint.published.get("dtype"))
        stored = ", ".join(self.stored_dtypes)
        return f"{stored} (config.json says {said})" if stored and isinstance(said, str) and said != stored else stored

    def release(self) -> None:
        """Give the memory of the weights back, on the card too. What is known of the model stays; it cannot be called any more."""
        for module in (self.network, self.head):
            shapes = {
                name: torch.empty(one.shape, dtype=one.dtype, device="meta")
                for name, one in module.state_dict().items()
            }
            module.load_state_dict(shapes, assign=True)
        self.device.release_memory()

    def facts(self) -> ModelFacts:
        """The `model` part of a record."""
        config, head = self.network.config, self.head_source
        return ModelFacts(
            name=self.checkpoint.name,
            parameters=self.parameters,
            bytes=self.bytes,
            tensors=len(self.network.state_dict()),
            shards=len(self.checkpoint.files),
            dtype=dtype_name(self.dtype),
            flops_per_image=config.flops_per_image,
            image_size=config.image_size,
            hidden_size=config.hidden_size,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            intermediate_size=config.intermediate_size,
            patch_size=config.patch_size,
            model_type=next(iter(_texts(self.checkpoint.published.get("model_type"))), None),
            architectures=_texts(self.checkpoint.published.get("architectures")) or None,
            head=head.kind,
            classes=len(head.classes),
            head_is_trained=self.head_is_trained,
            head_file=head.file.name if head.file else None,
            head_sha256=head.sha256 or None,
            head_is_the_published_one=head.is_the_published_one,
            load_seconds=round(self.seconds, 3),
            load_host_peak_bytes=self.host_peak_bytes,
            kernels=self.network.kernels.name,
            load_device_peak_bytes=None if self.device.uses_host_memory else self.device_peak_bytes,
            stored_dtype=self.stored_as or None,
            ignored_tensors=self.ignored_tensors or None,
            sha256=[f"{file} {digest}" for file, digest in self.sha256.items()] or None,
        )

    def caveats(self) -> list[str]:
        """What a reader has to know about the device and the model to judge a figure, in sentences."""
        found = self.device.caveats()
        if self.checkpoint.is_random:
            found.append("The weights are random: speed and agreement are real, the answers mean nothing.")
        elif self.checkpoint.name == MINIATURE:
            found.append("The model is the embedded miniature: its speed does not predict the speed of the 6B network.")
        return found


def _texts(value: object) -> list[str]:
    """The texts in what a config.json says, which may be anything."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def check_memory(checkpoint: Checkpoint, device: Device, dtype: torch.dtype) -> None:
    """Raise InputError, before anything is loaded, if the weights alone need more memory than is free."""
    with torch.device("meta"):
        values = sum(tensor.numel() for tensor in InternViT(checkpoint.config).state_dict().values())
    needed, free = values * dtype.itemsize, device.available_memory()
    if needed > free:
        raise InputError(
            f"{checkpoint.name} needs {needed / 2**30:.1f} GiB for its weights in {dtype_name(dtype)}, and {device} has "
            f"{free / 2**30:.1f} GiB free: free memory, choose another card, or use a 16-bit dtype."
        )


def _check_names(
    stored: Mapping[str, Tensor], places: Mapping[str, Path], expected: Mapping[str, Tensor], name: str
) -> None:
    """Raise InputError naming the tensors that are missing, unexpected or wrongly shaped."""
    problems = [f"{key} is missing" for key in expected if key not in stored]
    problems += [f"{key} is unexpected (in {places[key].name})" for key in stored if key not in expected]
    problems += [
        f"{key} (in {places[key].name}) has shape {tuple(stored[key].shape)} where config.json implies {tuple(like.shape)}"
        for key, like in expected.items()
        if key in stored and stored[key].shape != like.shape
    ]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise InputError(f"The weights of {name} do not fit its config.json: {'; '.join(problems[:5])}{more}.")


def _read_tensors(
    checkpoint: Checkpoint, expected: Mapping[str, Tensor], device: Device, dtype: torch.dtype
) -> tuple[dict[str, Tensor], tuple[str, ...], int]:
    """The network's tensors by published name, scanned for damage; the dtypes in the files; how many were ignored.

    They stay mapped if nothing has to be cast or sent to a card, else they are copied to the device and cast there. A
    tensor stored in three parts (query, key, value) is copied into the matching rows.
    """
    assert checkpoint.source is not None
    stored = open_weights(checkpoint.source)
    naming = checkpoint.naming
    ignored = ignored_names(stored.tensors, naming)
    beside = ignored | head_names(stored.tensors, naming)
    tensors = {name: tensor for name, tensor in stored.tensors.items() if name not in beside}
    _check_names(tensors, stored.places, naming.stored(expected), checkpoint.name)
    dtypes = {tensor.dtype for tensor in tensors.values()}
    stays = device.uses_host_memory and dtypes == {dtype}
    result = (
        {}
        if stays
        else {name: torch.empty(like.shape, dtype=dtype, device=device.torch_device) for name, like in expected.items()}
    )
    rows = naming.stored(result)
    total = sum(tensor.nbytes for tensor in tensors.values())
    with Progress(total=total, desc="loading weights", unit="B", unit_scale=True) as progress:
        for name, tensor in tensors.items():
            check_values(name, tensor, stored.places[name], dtype)
            if not stays:
                # Not tensor.to(device): on the test rig, torch_npu left host memory larger by half of what it copied.
                sent = (
                    tensor
                    if device.uses_host_memory
                    else torch.empty_like(tensor, device=device.torch_device).copy_(tensor)
                )
                rows[name].copy_(sent)  # cast where it is
            progress.update(tensor.nbytes)
    names = tuple(sorted(map(dtype_name, dtypes)))
    return (naming.published(tensors, expected) if stays else result), names, len(ignored)


def load(checkpoint: Checkpoint, device: Device, dtype: torch.dtype, verify: bool = False) -> Loaded:
    """Put stored or random weights on the device, in a network that uses the fused kernels that passed their check.

    `verify` computes the SHA-256 of every file, for the record. Beyond the final network, host memory holds mapped
    pages of the files only. Raises InputError if the weights are damaged, or do not fit the config or the memory.
    """
    check_memory(checkpoint, device, dtype)
    with device.fall_backs() as fell_back:
        kernels, verdicts = trusted_kernels(checkpoint.config, device, dtype)
        with torch.device("meta"):
            network = InternViT(checkpoint.config, kernels)
        return_freed_memory()  # of the checks, half a gigabyte where the MLP is checked
        digests = {file.name: sha256(file) for file in checkpoint.files} if verify else {}
        reset_host_peak()
        device.reset_peak_memory()
        began = time.perf_counter()
        stored_dtypes: tuple[str, ...] = ()
        ignored = 0
        expected = network.state_dict()
        if checkpoint.is_random:
            tensors = random_weights(checkpoint.name, expected, device, dtype)
        else:
            try:
                tensors, stored_dtypes, ignored = _read_tensors(checkpoint, expected, device, dtype)
            except InputError as error:
                seen = ", ".join(f"{name} {digest}" for name, digest in digests.items())
                raise InputError(f"{error} SHA-256 here: {seen}." if seen else str(error)) from None
        network.load_state_dict(tensors, strict=True, assign=True)
        del tensors
        network.lay_out()
        width = checkpoint.config.hidden_size
        head = read_head(checkpoint.head, width) if checkpoint.head else random_head(width)
        device.synchronize()
    return Loaded(
        checkpoint=checkpoint,
        network=network.eval().requires_grad_(False),
        head=head.module.to(device.torch_device).eval().requires_grad_(False),
        head_source=head,
        classes=head.classes,
        device=device,
        dtype=dtype,
        stored_dtypes=stored_dtypes,
        ignored_tensors=ignored,
        sha256=digests,
        seconds=time.perf_counter() - began,
        host_peak_bytes=host_peak(),
        device_peak_bytes=device.peak_memory(),
        kernel_verdicts=verdicts,
        fell_back=tuple(fell_back),
    )
