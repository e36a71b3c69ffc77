"""InternViT: the network, its kernels, which fused ones are trusted on a device, and what others published about it."""
