"""Strategies of distributed training."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from pmg.domain import PmgError


class ShardedLanguageModel(DDPStrategy):
    """Shards the layers of the frozen language model over the processes (FSDP), and replicates what is trained (DDP).

    The trained part of PMG is small, the frozen part large. Each process keeps a shard of every layer, and a layer is
    gathered for its forward and backward pass. The whole model is loaded before it is sharded.
    """

    def setup(self, trainer: pl.Trainer) -> None:
        """Keeps a shard of every layer's weights in each process, and sets up DDP; PmgError for quantized weights."""
        model = self.lightning_module.language_model.model
        if getattr(model, "quantization_method", None):
            raise PmgError(
                "trainer=fsdp can't shard quantized weights. Set language_model.quantization=null, or trainer=ddp"
            )
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        for layer in model.get_decoder().layers:
            fully_shard(layer, mesh=mesh)
        super().setup(trainer)
