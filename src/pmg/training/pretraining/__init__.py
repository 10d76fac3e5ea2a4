"""LightningModules and stages that train the embedded models."""
