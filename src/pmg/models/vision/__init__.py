"""Scorers, judges, image features, and perceptual distances."""
