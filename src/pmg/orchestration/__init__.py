"""The launcher shell, sweeps, sharding, process pools, and distributed training."""
