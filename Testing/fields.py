"""Random images known at every position, so that a rescaled one is exact and not interpolated."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def field(size: int, scale: float, colour: str, seed: int = 0) -> Tensor:
    """A sum of plane waves f(x / scale), (1, 1, x, y, z); amplitudes fall as 1/|k|^1.5 (`natural`) or not (`white`)."""
    generator = torch.Generator().manual_seed(seed)
    waves = 60
    vectors = 0.9 * math.pi * (2 * torch.rand(waves, 3, generator=generator, dtype=torch.float64) - 1)
    phases = 2 * math.pi * torch.rand(waves, generator=generator, dtype=torch.float64)
    length = vectors.norm(dim=1).clamp(min=0.05)
    amplitudes = length**-1.5 if colour == "natural" else torch.ones_like(length)
    positions = torch.arange(size, dtype=torch.float64) / scale
    x, y, z = (torch.exp(1j * positions[:, None] * vectors[None, :, axis]) for axis in range(3))
    weights = amplitudes * torch.exp(1j * phases) / amplitudes.square().sum().div(2).sqrt()
    plane = torch.einsum("xm,ym->xym", x * weights, y).reshape(size * size, waves)
    return (plane @ z.T).real.reshape(1, 1, size, size, size).float()


def relative_difference(a: Tensor, b: Tensor) -> float:
    """||a - b||^2 / ||b||^2."""
    return float((a - b).square().sum() / b.square().sum())


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation over all values."""
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])
