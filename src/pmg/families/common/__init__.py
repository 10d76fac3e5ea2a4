"""What families of diffusion transformers have in common."""
