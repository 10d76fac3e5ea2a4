"""Frozen causal language models: contexts, option scoring, and text generation."""
