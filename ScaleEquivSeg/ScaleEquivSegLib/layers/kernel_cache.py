"""Kernels that are made from weights: once in evaluation, at every step in training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .tracing import is_compiling


class CachedKernels(nn.Module):
    """Base of the layers that make their kernels from `weight`, by `_build`.

    In evaluation the kernels are made once and kept until the weights change. (A change written through `weight.data`
    is noticed at the next call of `train` or `eval`.)
    """

    weight: nn.Parameter
    _kept: list[Tensor] | None
    _source: Tensor | None  # holding the memory _kept was made from keeps its address from being given to other weights
    _version: int

    def __init__(self) -> None:
        super().__init__()
        self._forget()

    def _build(self) -> list[Tensor]:
        raise NotImplementedError

    def kernels(self) -> list[Tensor]:
        """The kernels that belong to the weights as they are now."""
        differentiated = torch.is_grad_enabled() and self.weight.requires_grad
        # A traced graph must not depend on what was kept; an inference tensor doesn't say when it changes.
        if self.training or differentiated or is_compiling() or self.weight.is_inference():
            return self._build()
        if self._kept is None or self._version != self.weight._version or not _same_memory(self._source, self.weight):
            with torch.inference_mode(False), torch.no_grad():
                made = self._build()
            if made[0].dtype != self.weight.dtype:  # autocast's: they would not do outside of it
                return made
            self._kept = made
            self._source, self._version = self.weight.detach(), self.weight._version
        return self._kept

    def _forget(self) -> None:
        self._kept, self._source, self._version = None, None, -1

    def train(self, mode: bool = True) -> CachedKernels:
        self._forget()
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None, "_source": None}  # a copy has weights of its own


def _same_memory(a: Tensor | None, b: Tensor) -> bool:
    return a is not None and a.data_ptr() == b.data_ptr()
