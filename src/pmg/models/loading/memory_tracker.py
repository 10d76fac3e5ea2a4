"""Memory of tensors while code runs: a measurement on real tensors, a forecast on meta tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar, Self

import torch
from diffusers import ModelMixin
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operations allocate, while they are referenced.

    Storages from before are not counted, nor is the workspace of kernels. Activations are counted, since autograd
    references them until the backward pass. `device` is the kind of device that counts, e.g. ``meta``; None: all.
    `live` bytes are allocated now, `peak` is the largest number at once.
    """

    def __init__(self, device: str | None = None) -> None:
        super().__init__()
        self.device = device
        self.live = self.peak = 0
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple = (), kwargs: Mapping | None = None
    ) -> Any:
        """Runs an operation and counts what it allocated."""
        inputs = {storage_of(tensor) for tensor in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        self._forget()  # before counting: a new storage may have the name of one that is gone
        for tensor in _tensors(result):
            if self.device not in (None, tensor.device.type):
                continue
            if (key := storage_of(tensor)) not in inputs and key not in self._held:
                storage = tensor.untyped_storage()
                self._held[key] = StorageWeakRef(storage), storage.nbytes()
                self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        return result

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self._forget()

    def _forget(self) -> None:
        for key in [key for key, (reference, _) in self._held.items() if reference.expired()]:
            self.live -= self._held.pop(key)[1]


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def storage_of(tensor: Tensor) -> int:
    """Returns the id of a tensor's storage, which views share."""
    return tensor.untyped_storage()._cdata


def weight_bytes(module: torch.nn.Module, counted: set[int] | None = None) -> int:
    """Returns the bytes of a module's parameters and buffers; shared ones count once.

    `counted` are storages of models counted before, which don't count again; those of this one are added.
    """
    counted = set() if counted is None else counted
    tensors = {storage_of(t): t.untyped_storage().nbytes() for t in (*module.parameters(), *module.buffers())}
    total = sum(size for storage, size in tensors.items() if storage not in counted)
    counted.update(tensors)
    return total


class FusedAttention(TorchFunctionMode):
    """Attention with the memory of a GPU's fused kernel: inputs, mask and output, no matrix of all pairs.

    On the meta device torch decomposes attention into plain matrix products. `active` counts those entered.
    """

    active: ClassVar[int] = 0

    def __enter__(self) -> Self:
        FusedAttention.active += 1
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        FusedAttention.active -= 1
        super().__exit__(*exception)

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple = (), kwargs: Mapping | None = None
    ) -> Any:
        """Replaces calls of ``scaled_dot_product_attention``."""
        if func is torch.nn.functional.scaled_dot_product_attention:
            named = kwargs or {}
            mask = args[3] if len(args) > 3 else named.get("attn_mask")
            return _Fused.apply(*args[:3], *(named[name] for name in ("query", "key", "value")[len(args) :]), mask)
        return func(*args, **(kwargs or {}))


def checkpoint_contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
    """Returns contexts of a forward pass and of its recomputation, for `torch.utils.checkpoint`.

    The backward pass runs without modes of the forward pass: recomputed attention is fused if the first one was.
    """
    return nullcontext(), FusedAttention() if FusedAttention.active else nullcontext()


def recompute_activations(model: ModelMixin) -> None:
    """Has a model of diffusers compute activations again in the backward pass: less memory, a third more time."""
    model.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False, context_fn=checkpoint_contexts))


class _Fused(torch.autograd.Function):
    """What such a kernel saves for the backward pass, without values."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Returns an empty `(B, heads, N, D)`, and saves what the kernel saves."""
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, result, sums, mask)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Returns empty gradients of query, key and value, and none of the mask."""
        return (*(torch.empty_like(part) for part in ctx.saved_tensors[:3]), None)
