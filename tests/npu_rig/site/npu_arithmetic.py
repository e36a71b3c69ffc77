"""The arithmetic of the rig's NPU: every computing operator on an npu tensor runs on the CPU, over the same bytes.

Imitated on purpose, because reports must catch it:
- F.gelu computes the tanh form whatever `approximate` says, unless torch.npu.use_compatible_impl(True) was called;
- a float32 convolution is rounded to HF32 while torch.npu.conv.allow_hf32 is True;
- work is asynchronous: NPU_RIG_MS="aten::linear=5" keeps the device busy that many milliseconds for each call;
- NPU_RIG_REFUSE="aten::topk" makes operators fail ("aten::linear@bfloat16": for that dtype of their first tensor);
- NPU_RIG_FALLBACK="aten::topk" makes operators warn as a fall back to the CPU does;
- NPU_RIG_UNIFORM="aten::scaled_dot_product_attention" makes an attention answer with the plain mean of the values;
- NPU_RIG_ZEROS_FROM="4096" makes products of matrices that large answer with zeros, which spares the one that a benchmark measures.

Not here: graph capture, torch.compile, collectives, real speed, real rounding. Knobs are read at every call.
"""

import ctypes
import functools
import os
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

# Handled by torch_npu itself: they allocate, or change what a tensor says of its bytes.
UNTOUCHED = frozenset({
    "aten::empty.memory_format", "aten::empty_strided", "aten::detach", "aten::resize_", "aten::lift_fresh", "aten::alias",
    "aten::set_.source_Storage_storage_offset", "aten::set_.source_Storage", "aten::is_pinned", "aten::_pin_memory",
})  # fmt: skip
# Views or copies, as the strides decide: taken apart, so that a view stays a view.
MAYBE_VIEWS = frozenset({
    "aten::reshape", "aten::flatten.using_ints", "aten::contiguous", "aten::to.dtype", "aten::to.device", "aten::to.dtype_layout",
    "aten::to.other", "aten::reshape_as", "aten::ravel",
})  # fmt: skip
# The host waits for the device here.
READ_BY_THE_HOST = frozenset({"aten::_local_scalar_dense", "aten::item", "aten::equal", "aten::is_nonzero"})
# Accumulated in float32 as the cube units do; a CPU without 16-bit products would also take minutes for them.
PRODUCTS = frozenset({
    "aten::linear", "aten::mm", "aten::addmm", "aten::bmm", "aten::matmul", "aten::conv2d", "aten::convolution",
    "aten::scaled_dot_product_attention", "npu::npu_fusion_attention", "npu::npu_fusion_attention_v3",
})  # fmt: skip
FALL_BACK = (
    "[W NPU] CAUTION: The operator '{}' is not currently supported on the NPU backend and will fall back to run on the CPU. "
    "This may have performance implications. (function npu_cpu_fallback)\n"
)


def _listed(knob: str) -> dict[str, str]:
    """The operators of a knob, each with what follows its equals sign."""
    return dict(word.partition("=")[::2] for word in filter(None, os.environ.get(knob, "").split(",")))


def on_host(tensor: Tensor) -> Tensor:
    """A CPU tensor over the bytes of an npu tensor."""
    storage = tensor.untyped_storage()
    if storage.nbytes() == 0:
        return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
    memory = (ctypes.c_uint8 * storage.nbytes()).from_address(storage.data_ptr())
    raw = torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()
    return torch.empty(0, dtype=tensor.dtype).set_(raw, tensor.storage_offset(), tensor.size(), tensor.stride())


@functools.cache
def on_host_generator(generator: torch.Generator) -> torch.Generator:
    """The CPU generator that draws for a card's."""
    return torch.Generator().manual_seed(generator.initial_seed())


def _sdpa(q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if "aten::scaled_dot_product_attention" in _listed("NPU_RIG_UNIFORM"):
        return v.mean(-2, keepdim=True).expand_as(q).contiguous()
    return F.scaled_dot_product_attention(q, k, v, *args, **kwargs)


def _matmul(left: Tensor, right: Tensor) -> Tensor:
    if min(left.shape[-2:] + right.shape[-2:]) >= float(os.environ.get("NPU_RIG_ZEROS_FROM", "inf")):
        return left.new_zeros(*left.shape[:-1], right.shape[-1])
    return torch.matmul(left, right)


def _fusion_attention(q: Tensor, k: Tensor, v: Tensor, _heads: int, layout: str, *_: Any, scale: float = 1.0, **__: Any) -> tuple[Any, ...]:
    """What SDPA becomes outside inference mode. Batch, heads, tokens, channels only: torch_npu brings its arguments into that order."""
    if layout != "BNSD":
        raise NotImplementedError(f"the rig has no npu_fusion_attention for layout {layout}")
    nothing = torch.empty(0)
    return (F.scaled_dot_product_attention(q, k, v, scale=scale).contiguous(), nothing, nothing, nothing, 0, 0, 0)


def _rms_norm(x: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    rstd = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + epsilon)
    return (x.float() * rstd * gamma.float()).to(x.dtype), rstd


def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate if torch.npu.are_compatible_impl_enabled() else "tanh")


def _npu_gelu(x: Tensor, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


def _hf32(x: Tensor) -> Tensor:
    """float32 with the 10 bit mantissa of HF32, cut off."""
    return (x.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32) if x.dtype == torch.float32 else x


def _rounded_as_allowed(convolution: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def rounded(x: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if torch.npu.conv.allow_hf32:
            x, weight = _hf32(x), _hf32(weight)
        return convolution(x, weight, *args, **kwargs)

    return rounded


OPERATORS: dict[str, Callable[..., Any]] = {
    "aten::scaled_dot_product_attention": _sdpa,
    "aten::gelu": _gelu,
    "aten::matmul": _matmul,
    "aten::conv2d": _rounded_as_allowed(F.conv2d),
    "aten::convolution": _rounded_as_allowed(torch.convolution),  # what conv2d is outside inference mode
    "npu::npu_fusion_attention": _fusion_attention,
    "npu::npu_fusion_attention_v3": _fusion_attention,
    "npu::npu_rms_norm": _rms_norm,
    "npu::npu_gelu": _npu_gelu,
}


class Arithmetic(TorchDispatchMode):
    """Runs what torch_npu would have given to CANN."""

    def __init__(self) -> None:
        super().__init__()
        self.cann = ctypes.CDLL("libascendcl.so")
        self.cann.rig_occupy.argtypes = [ctypes.c_double]
        self.warned: set[str] = set()

    def empty_queue(self) -> None:
        """Let torch_npu's own queue run dry without waiting for the modelled time."""
        self.cann.rig_waiting(0)
        torch.npu.synchronize()
        self.cann.rig_waiting(1)

    def play(self, name: str, dtype: str) -> None:
        """What the knobs ask of this operator."""
        if {name, f"{name}@{dtype}"} & set(_listed("NPU_RIG_REFUSE")):
            raise NotImplementedError(f"Could not run '{name}' with arguments from the 'npu' backend")
        if name in _listed("NPU_RIG_FALLBACK") and name not in self.warned:
            self.warned.add(name)  # the real one warns once for each operator, too
            os.write(2, FALL_BACK.format(name).encode())
        self.cann.rig_occupy(float(_listed("NPU_RIG_MS").get(name, 0)))

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        full = f"{name}.{func._schema.overload_name}".rstrip(".")
        flat, spec = pytree.tree_flatten((args, kwargs))
        mine = [item for item in flat if isinstance(item, Tensor) and item.device.type == "npu"]
        target = torch.device(kwargs.get("device") or "cpu").type
        if full in UNTOUCHED or (not mine and target != "npu"):
            return func(*args, **kwargs)
        if full in MAYBE_VIEWS:
            with self:
                return func.decompose(*args, **kwargs)
        if name == "npu::npu_format_cast":
            return args[0]
        if func.is_view and mine:
            return func(*args, **kwargs)
        self.play(name, str(mine[0].dtype).removeprefix("torch.") if mine else "")
        to_host = (kwargs.get("device") is not None and target == "cpu") or (full == "aten::copy_" and args[0].device.type == "cpu")
        if to_host or full in READ_BY_THE_HOST:
            torch.npu.synchronize()
        else:
            self.empty_queue()
        return compute(func, flat, spec, mine, to_host)


def widened(item: Any, narrow: torch.dtype | None) -> Any:
    return item.float() if narrow and isinstance(item, Tensor) and item.dtype == narrow else item


def compute(func: Any, flat: list[Any], spec: Any, mine: list[Tensor], to_host: bool) -> Any:
    """Run one operator on host views of its npu tensors; results go back to the card unless `to_host`."""
    name = func._schema.name
    if name.startswith("npu::") and name not in OPERATORS:
        raise NotImplementedError(f"the rig has no arithmetic for {name}")
    views = {id(tensor): on_host(tensor) for tensor in mine}
    originals = {id(views[id(tensor)]): tensor for tensor in mine}
    card = mine[0].device if mine else None

    def down(item: Any) -> Any:
        if isinstance(item, Tensor):
            return views.get(id(item), item)
        if isinstance(item, torch.Generator) and item.device.type == "npu":
            return on_host_generator(item)
        return torch.device("cpu") if isinstance(item, torch.device) and item.type == "npu" else item

    def up(item: Any) -> Any:
        if not isinstance(item, Tensor) or to_host:
            return item
        if id(item) in originals:  # computed in place
            return originals[id(item)]
        result = torch.empty_strided(item.size(), item.stride(), dtype=item.dtype, device=card or wanted)
        on_host(result).copy_(item)
        return result

    wanted = next((item for item in flat if isinstance(item, torch.device) and item.type == "npu"), torch.device("npu"))
    narrow = mine[0].dtype if mine and name in PRODUCTS and mine[0].dtype in {torch.bfloat16, torch.float16} else None
    hosted = [widened(down(item), narrow) for item in flat]
    args, kwargs = pytree.tree_unflatten(hosted, spec)
    result = OPERATORS.get(name, func)(*args, **kwargs)
    return pytree.tree_map(lambda item: up(item.to(narrow) if narrow and isinstance(item, Tensor) else item), result)


def enter() -> None:
    """Compute for the rest of the process, in this thread."""
    plain_repr = Tensor.__repr__

    def host_repr(self: Tensor, *, tensor_contents: Any = None) -> str:
        # Printing leaves every dispatch mode, so a copy on the host is printed.
        if self.device.type != "npu":
            return plain_repr(self, tensor_contents=tensor_contents)
        return f"{plain_repr(self.detach().cpu())[:-1]}, device='{self.device}')"

    Tensor.__repr__ = host_repr  # type: ignore[method-assign, assignment]
    Arithmetic().__enter__()
