"""Generators of image tokens for pmg: Janus-Pro, and a small Janus of looks with its tokenizer and its training."""
