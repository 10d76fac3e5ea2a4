"""The floating point operations of a training step, counted on the first one."""

from __future__ import annotations

from contextlib import ExitStack

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


class StepOperations(Callback):
    """Counts the first step of a run: forward and backward passes and the optimizer's products.

    Attributes:
        counted: operations of a step, a multiplication and an addition being two; 0 before the first one.
    """

    def __init__(self) -> None:
        self.counted = 0
        self._open = ExitStack()
        self._counter: FlopCounterMode | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, _: int) -> None:
        """Begins to count; attention is taken apart, since the fused kernel of processors isn't counted."""
        if not self.counted:
            self._open.enter_context(sdpa_kernel(SDPBackend.MATH))
            self._counter = self._open.enter_context(FlopCounterMode(display=False))

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Ends the count; batches that only accumulate gradients are counted as often as a step has them."""
        if self._counter is not None:
            self._open.close()
            self.counted = int(self._counter.get_total_flops()) * trainer.accumulate_grad_batches
            self._counter = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends a count that an error interrupted."""
        self._open.close()
