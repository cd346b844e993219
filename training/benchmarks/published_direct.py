"""The published scale convolutions written down directly: a loop over scales, an ordinary convolution for each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ScaleEquivSegLib.layers.published_conv import PublishedLiftingConv, PublishedScaleConv


def lifted(conv: PublishedLiftingConv, image: Tensor) -> Tensor:
    """What `conv` computes, (batch, in_channels, x, y, z) -> (batch, out_channels, scale, x', y', z')."""
    responses = []
    for functions in conv.get_buffer("basis").unbind(1):
        kernel = torch.einsum("oik,kxyz->oixyz", conv.weight, functions)
        responses.append(F.conv3d(image, kernel, conv.bias, conv.stride, conv.padding))
    return torch.stack(responses, 2)


def convolved(conv: PublishedScaleConv, maps: Tensor) -> Tensor:
    """What `conv` computes, (batch, in_channels, scale, x, y, z) -> (batch, out_channels, scale, x', y', z')."""
    last = maps.shape[2] - 1
    responses = []
    for scale, functions in enumerate(conv.get_buffer("basis").unbind(1)):
        terms = []
        for step in range(conv.scale_size):
            neighbour = maps[:, :, min(scale + step, last)]
            kernel = torch.einsum("oik,kxyz->oixyz", conv.weight[:, :, step], functions)
            bias = conv.bias if step == 0 else None
            if conv.transposed:
                term = F.conv_transpose3d(neighbour, kernel.transpose(0, 1), bias, conv.stride, conv.padding)
            else:
                term = F.conv3d(neighbour, kernel, bias, conv.stride, conv.padding)
            terms.append(term)
        responses.append(sum(terms[1:], terms[0]))
    return torch.stack(responses, 2)
