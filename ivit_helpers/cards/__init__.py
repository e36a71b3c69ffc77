"""Several cards: torchrun starts a process for each, they are watched and ended, and each knows its place. Importing this wing does not
import torch.

The engine is torchrun (torch.distributed.run), the convention on Ascend and CUDA alike. The processes need nothing of each other while
they work; where they meet, they meet through gloo, which every build of torch has.
"""
