"""How far a result may be from its reference when rounding is the only cause."""

import torch
from torch import Tensor

# Rounding differs from one correct implementation to the next. A real fault (a wrong norm, a lost scale) is far larger.
# torchbench accepts the same multiples of a reference implementation's error.
ALLOWED_MULTIPLE = {torch.float32: 2.0, torch.bfloat16: 3.0, torch.float16: 3.0}
# Float32 kernels approximate erf and sum in other orders; each costs about this much. A wrong formula costs 1e-4 and more.
FLOOR = 100 * torch.finfo(torch.float32).eps


def reference_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that a reference is computed in: the next wider one that a CPU computes fast."""
    return torch.float64 if dtype == torch.float32 else torch.float32


def relative_error(found: Tensor, reference: Tensor) -> float:
    """Root mean square of the difference over that of the reference; nan where `found` is not finite."""
    return float((found.to(reference.dtype) - reference).norm() / reference.norm())
