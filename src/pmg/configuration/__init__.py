"""Schemas, the building of objects from configs, allowed targets, and the identity of a run."""
