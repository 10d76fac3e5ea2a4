"""Trainings of the embedded models."""
