"""The running statistics of the normalisation, once the weights are what they will be."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ScaleEquivSegLib.layers.dropout import ScaleChannelDropout
from ScaleEquivSegLib.layers.group_conv import GroupBatchNorm
from ScaleEquivSegLib.layers.norm import ScaleBatchNorm


@torch.no_grad()
def restate_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace all running statistics by plain averages over batches, with the weights as they are now.

    Running averages lag behind the weights they were gathered with; at inference that costs accuracy and equivariance.
    """
    norms = [m for m in network.modules() if isinstance(m, ScaleBatchNorm | GroupBatchNorm)]
    if not norms:
        return
    was_training, momenta = network.training, [m.momentum for m in norms]
    network.train()
    for dropout in (m for m in network.modules() if isinstance(m, ScaleChannelDropout)):
        dropout.eval()  # it would widen what the layers after it see
    for count, batch in enumerate(batches, start=1):
        for norm in norms:
            norm.momentum = 1 / count
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(was_training)
