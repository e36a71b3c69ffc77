"""InternViT: the network, its kernels, which fused kernels are trusted on a device, and what others published about it."""
