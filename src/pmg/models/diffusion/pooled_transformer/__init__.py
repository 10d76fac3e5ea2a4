"""A small diffusion transformer: cross-attention to tokens, modulation by a pooled vector."""
