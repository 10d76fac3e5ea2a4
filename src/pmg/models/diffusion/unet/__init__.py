"""UNets with cross-attention: denoiser, condition adapter, Stable Diffusion 1, 2 and XL."""
