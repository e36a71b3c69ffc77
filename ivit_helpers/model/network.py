"""InternViT and its classification head, with the published tensor names.

Shapes: B images, N tokens (one class token, then the patches in rows), C channels (hidden_size).
Source: config.json and modeling_intern_vit.py of OpenGVLab/InternViT-6B-224px; arXiv 2312.14238 for the head.
"""

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from ivit_helpers.errors import InputError
from ivit_helpers.model.kernels import PLAIN, Kernels


@dataclass(frozen=True, config=ConfigDict(strict=True))
class InternViTConfig:
    """What of a published config.json decides the network; the defaults are InternViT-6B-224px.

    Sizes go to four times the 6B network's. Raises InputError for values that are not possible.
    """

    hidden_size: Annotated[int, Field(ge=1, le=2**14)] = 3200
    num_hidden_layers: Annotated[int, Field(ge=1, le=256)] = 48
    num_attention_heads: Annotated[int, Field(ge=1, le=256)] = 25
    intermediate_size: Annotated[int, Field(ge=1, le=2**16)] = 12800
    image_size: Annotated[int, Field(ge=1, le=2**11)] = 224
    patch_size: Annotated[int, Field(ge=1, le=2**11)] = 14
    num_channels: Annotated[int, Field(ge=3, le=3)] = 3
    norm_type: Literal["rms_norm", "layer_norm"] = "rms_norm"
    qk_normalization: bool = True
    qkv_bias: bool = False
    layer_norm_eps: Annotated[float, Field(ge=1e-12, le=1e-3)] = 1e-6

    @model_validator(mode="wrap")
    @classmethod
    def _validated(cls, values: Any, validate: Any) -> Any:
        """Name the first impossible value in one sentence."""
        try:
            config = validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"config.json: {first['loc'][0]} is {first['input']!r}: {first['msg']}.") from None
        for whole, part in (("hidden_size", "num_attention_heads"), ("image_size", "patch_size")):
            if getattr(config, whole) % getattr(config, part):
                sizes = f"{getattr(config, whole)} is not a multiple of {part} {getattr(config, part)}"
                raise InputError(f"config.json: {whole} {sizes}.")
        return config

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """N: the class token and the patches."""
        return 1 + self.grid**2

    @property
    def flops_per_image(self) -> int:
        """Floating point operations of one pass of one image: matrix products only, a multiply-add counted as two."""
        linears = self.tokens * (4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size)
        attention = 2 * self.tokens**2 * self.hidden_size
        patches = self.grid**2 * self.num_channels * self.patch_size**2 * self.hidden_size
        return 2 * (self.num_hidden_layers * (linears + attention) + patches)


class RMSNorm(nn.Module):
    """Root mean square norm over the last dimension."""

    def __init__(self, width: int, epsilon: float, kernels: Kernels) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon
        self.kernels = kernels

    def forward(self, x: Tensor) -> Tensor:
        return self.kernels.rms_norm(x, self.weight, self.epsilon)


class Embeddings(nn.Module):
    """Pixels (B, 3, height, width) -> tokens (B, N, C)."""

    def __init__(self, config: InternViTConfig) -> None:
        super().__init__()
        self.grid = config.grid
        self.class_embedding = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.position_embedding = nn.Parameter(torch.zeros(1, config.tokens, config.hidden_size))
        self.patch_embedding = nn.Conv2d(config.num_channels, config.hidden_size, config.patch_size, config.patch_size)

    def positions(self, height: int, width: int) -> Tensor:
        """Position embedding (1, 1 + height * width, C), resized to another grid by bicubic interpolation."""
        if (height, width) == (self.grid, self.grid):
            return self.position_embedding
        of_class, of_patches = self.position_embedding.split([1, self.grid**2], dim=1)
        square = of_patches.float().unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        resized = F.interpolate(square, size=(height, width), mode="bicubic", align_corners=False)
        return torch.cat([of_class, resized.flatten(2).transpose(1, 2).to(of_class.dtype)], dim=1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches: Tensor = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        rows, columns = patches.shape[-2:]  # of (B, C, rows, columns)
        class_token = self.class_embedding.expand(len(patches), -1, -1)
        tokens = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1)
        return tokens + self.positions(rows, columns)


class Attention(nn.Module):
    """Multi-head self attention; queries and keys are normalised over all heads together, before they are split."""

    def __init__(self, config: InternViTConfig, kernels: Kernels) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.kernels = kernels
        self.qkv = nn.Linear(width, 3 * width, bias=config.qkv_bias)
        self.q_norm = RMSNorm(width, config.layer_norm_eps, kernels) if config.qk_normalization else nn.Identity()
        self.k_norm = RMSNorm(width, config.layer_norm_eps, kernels) if config.qk_normalization else nn.Identity()
        self.proj = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, heads, N, C / heads), a view."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # (B, N, C) each
        mixed = self.kernels.attention(self._split(self.q_norm(q)), self._split(self.k_norm(k)), self._split(v))
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected

    def class_token_weights(self, x: Tensor) -> Tensor:
        """What the class token attends to: (B, N, C) -> (B, heads, N) in float32, which adds up to 1 over the tokens.

        Fused kernels do not give these weights, so they are computed from the same queries and keys.
        """
        q, k, _ = self.qkv(x).chunk(3, dim=-1)
        of_class = self._split(self.q_norm(q))[:, :, :1].float()  # (B, heads, 1, C / heads)
        scores = of_class @ self._split(self.k_norm(k)).float().transpose(-2, -1)
        weights: Tensor = (scores * float(of_class.shape[-1]) ** -0.5).softmax(dim=-1)
        return weights[:, :, 0]


class MLP(nn.Module):
    """Two linears with the exact GELU between them."""

    def __init__(self, config: InternViTConfig, kernels: Kernels) -> None:
        super().__init__()
        self.kernels = kernels
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        fc1, fc2 = self.fc1, self.fc2
        return self.kernels.mlp(x, fc1.weight, fc1.bias, fc2.weight, fc2.bias, self.kernels.gelu)


class Block(nn.Module):
    """Pre-norm transformer block with layer scale. Drop path is the identity in inference, so it is not here."""

    def __init__(self, config: InternViTConfig, kernels: Kernels) -> None:
        super().__init__()
        width, epsilon = config.hidden_size, config.layer_norm_eps

        def norm() -> nn.Module:
            layer_norm = config.norm_type == "layer_norm"
            return nn.LayerNorm(width, eps=epsilon) if layer_norm else RMSNorm(width, epsilon, kernels)

        self.kernels = kernels
        self.norm1 = norm()
        self.attn = Attention(config, kernels)
        self.ls1 = nn.Parameter(torch.ones(width))
        self.norm2 = norm()
        self.mlp = MLP(config, kernels)
        self.ls2 = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.kernels.add_scaled(x, self.attn(self.norm1(x)), self.ls1)
        return self.kernels.add_scaled(x, self.mlp(self.norm2(x)), self.ls2)


class Encoder(nn.Module):
    """The blocks, in order."""

    def __init__(self, config: InternViTConfig, kernels: Kernels) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(config, kernels) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class InternViT(nn.Module):
    """Pixels (B, 3, height, width) -> last hidden state (B, N, C), without a final norm. `[:, 0]`: class token."""

    def __init__(self, config: InternViTConfig, kernels: Kernels = PLAIN) -> None:
        super().__init__()
        self.config = config
        self.kernels = kernels
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config, kernels)

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden: Tensor = self.encoder(self.embeddings(pixel_values))
        return hidden

    def lay_out(self) -> None:
        """Let the kernel of the MLPs arrange their weights in memory as it reads them. Values and names stay."""
        lay_out = getattr(self.kernels.mlp, "lay_out", None)
        if lay_out is not None:
            for mlp in (module for module in self.modules() if isinstance(module, MLP)):
                lay_out(mlp.fc1)
                lay_out(mlp.fc2)

    def sharing_weights(self, kernels: Kernels) -> "InternViT":
        """The same network, over the same tensors, computed by other kernels."""
        with torch.device("meta"):
            twin = InternViT(self.config, kernels)
        twin.load_state_dict(self.state_dict(), strict=True, assign=True)
        return twin.requires_grad_(False).eval()


class ClassificationHead(nn.Module):
    """Last hidden state (B, N, C) -> logits (B, classes), in float32.

    The official head: the class token and the mean patch token side by side, BatchNorm, Linear.
    """

    def __init__(self, hidden_size: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2 * hidden_size, eps=1e-6)
        self.head = nn.Linear(2 * hidden_size, classes)

    @staticmethod
    def pooled(hidden: Tensor) -> Tensor:
        """Features (B, 2 C) in float32."""
        wide = hidden.float()
        return torch.cat([wide[:, 0], wide[:, 1:].mean(dim=1)], dim=-1)

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.pooled(hidden)))
        return logits


class Classifier(nn.Module):
    """InternViT and its head: pixels (B, 3, height, width) -> logits (B, classes)."""

    def __init__(self, backbone: InternViT, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(pixel_values))
        return logits


SHAPES = {
    "6b-224": InternViTConfig(),
    "6b-448": InternViTConfig(num_hidden_layers=45, image_size=448),
    "300m-448": InternViTConfig(1024, 24, 16, 4096, 448, norm_type="layer_norm", qk_normalization=False, qkv_bias=True),
    "tiny-224": InternViTConfig(128, 4, 4, 512),
}
"""Networks that `model="random:NAME"` can make without any download."""
