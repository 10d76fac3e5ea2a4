"""The data sets of looks."""

from looks import few_looks, looks  # noqa: F401
