"""Looks: drawings under finishes, users who like some, and the models, stages, judges and metrics of that world."""
