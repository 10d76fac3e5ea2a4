"""How several processes share what a training holds."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from pmg.domain import PmgError
from pmg.models.language.language_model import LanguageModel


class ShardedLanguageModel(DDPStrategy):
    """Deals the frozen language model's layers to the processes (FSDP), and copies what is trained to each (DDP).

    What PMG trains is small; what is large is frozen. Each process keeps its part of every layer, and a layer is
    gathered while it computes, on the way back too. The whole model is loaded before it is dealt.
    """

    def setup(self, trainer: pl.Trainer) -> None:
        """Deals the layers, then goes on as DDP.

        Raises:
            PmgError: the weights are quantized.
        """
        language_model = self.lightning_module.language_model
        shard_layers(language_model, self.root_device.type, self.world_size)
        super().setup(trainer)


def shard_layers(language_model: LanguageModel, device: str, processes: int) -> None:
    """Leaves each of the processes a part of every layer's weights; all must call it, and from then on the model.

    Args:
        language_model: frozen.
        device: kind of device, as torch names it.
        processes: how many.

    Raises:
        PmgError: the weights are quantized.
    """
    model = language_model.model
    if getattr(model, "quantization_method", None):
        raise PmgError("trainer=fsdp can't deal quantized weights: encoder.language_model.quantization=null, or ddp")
    mesh = init_device_mesh(device, (processes,))
    for layer in model.get_decoder().layers:
        fully_shard(layer, mesh=mesh)
