"""Trainable modules that turn contexts or images into soft preference tokens."""
