"""InternViT on Ascend NPUs: load it, time it, check it, and report what was measured."""

import os

# torch imports every installed device backend, and torch-npu without CANN makes that import fail. ivit_helpers.device
# imports the backend instead, where a failure becomes one sentence. Must precede `import torch`.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")

__version__ = "0.1.0"
