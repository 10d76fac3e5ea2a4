"""Diffusion transformers with joint attention: denoiser, condition adapter, Stable Diffusion 3."""
