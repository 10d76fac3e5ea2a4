"""The floating point operations of a training step, counted on the first one."""

from __future__ import annotations

from contextlib import ExitStack

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.optimizer import Optimizer
from torch.utils.flop_counter import FlopCounterMode


class StepOperations(Callback):
    """Counts the forward and backward passes of a run's first step, without the optimizer's own operations.

    Attributes:
        counted: operations of a step, a multiplication and an addition being two; 0 before the first one.
    """

    def __init__(self) -> None:
        self.counted = 0
        self._open = ExitStack()
        self._counter: FlopCounterMode | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, _: int) -> None:
        """Begins to count; attention is taken apart, since the fused kernel of processors isn't counted."""
        if not self.counted and self._counter is None:  # batches of one step are counted together
            self._open.enter_context(sdpa_kernel(SDPBackend.MATH))
            self._counter = self._open.enter_context(FlopCounterMode(display=False))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Ends the count."""
        if self._counter is not None:
            self._open.close()
            self.counted, self._counter = int(self._counter.get_total_flops()), None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends a count that an error interrupted."""
        self._open.close()
