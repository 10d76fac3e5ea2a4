"""Weights from hub ids, folders and packages; devices, compilation, and models without weights."""
