"""Random images known at every position, so that a rescaled one is exact and not interpolated."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def field(size: int, scale: float, colour: str, seed: int = 0) -> Tensor:
    """A periodic random image f(x / scale), (1, 1, x, y, z), where f has unit variance and the period `size`.

    `white` has equal amplitudes at all frequencies up to 0.9 of the highest the grid carries, `natural` has amplitudes
    that fall as 1/|k|^1.5. Frequencies that the rescaled image could not carry are left out of it, as an ideal
    resampling would.
    """
    generator = torch.Generator().manual_seed(seed)
    reach = int(0.45 * size)
    wave = torch.arange(-reach, reach + 1, dtype=torch.float64)
    shape = (len(wave),) * 3
    spectrum = torch.complex(
        torch.randn(shape, generator=generator, dtype=torch.float64),
        torch.randn(shape, generator=generator, dtype=torch.float64),
    )
    length = torch.sqrt(wave[:, None, None] ** 2 + wave[:, None] ** 2 + wave**2).clamp(min=1)
    spectrum = spectrum * (length**-1.5 if colour == "natural" else 1.0)
    deviation = spectrum.abs().square().sum().div(2).sqrt()
    kept = (wave.abs() <= 0.5 * size * min(scale, 1.0)).double()
    spectrum = spectrum * kept[:, None, None] * kept[:, None] * kept
    phase = 2 * math.pi / (size * scale) * torch.arange(size, dtype=torch.float64)[:, None] * wave
    waves = torch.exp(1j * phase)  # (position, wave)
    image = torch.einsum("xa,abc->xbc", waves, spectrum)
    image = torch.einsum("yb,xbc->xyc", waves, image)
    values = torch.einsum("zc,xyc->xyz", waves, image).real
    return (values / deviation).float()[None, None]


def relative_difference(a: Tensor, b: Tensor) -> float:
    """||a - b||^2 / ||b||^2."""
    return float((a - b).square().sum() / b.square().sum())


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation over all values."""
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])
