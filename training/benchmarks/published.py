"""The published convolutions against a direct implementation: the same weights, the same results, another time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ScaleEquivSegLib.layers.published_basis import PublishedBasis
from ScaleEquivSegLib.layers.published_conv import PublishedLiftingConv, PublishedScaleConv

from . import published_direct
from .case import Case, Conditions, Figures, timed

SAME = 1e-4
"""Float32 results are the same if their relative difference is below this."""

Results = Callable[[], Sequence[Tensor]]


class Level(nn.Module):
    """The convolutions of one level of the published U-Net: lifting, stride, same grid, stride back.

    image (batch, 4, x, y, z) -> maps (batch, 4, scale, x, y, z) if the sizes are odd
    """

    def __init__(self, scale_size: int = 1) -> None:
        super().__init__()
        basis = PublishedBasis()
        self.lift = PublishedLiftingConv(4, 4, basis, padding=2)
        self.down = PublishedScaleConv(4, 8, basis, scale_size, stride=2)
        self.conv = PublishedScaleConv(8, 8, basis, scale_size, padding=2)
        self.up = PublishedScaleConv(8, 4, basis, scale_size, stride=2, transposed=True)

    def forward(self, image: Tensor) -> Tensor:
        maps: Tensor = self.up(self.conv(self.down(self.lift(image))))
        return maps

    def directly(self, image: Tensor) -> Tensor:
        """The same with the same weights, scale by scale."""
        maps = published_direct.lifted(self.lift, image)
        for conv in (self.down, self.conv, self.up):
            maps = published_direct.convolved(conv, maps)
        return maps


def forward(name: str, conditions: Conditions) -> Figures:
    """The convolutions' results, as at inference."""
    level, image = _example(conditions)

    def results(run: Callable[[Tensor], Tensor]) -> list[Tensor]:
        with torch.inference_mode():
            return [run(image)]

    return _compared(name, lambda: results(level), lambda: results(level.directly), conditions)


def step(name: str, conditions: Conditions) -> Figures:
    """Forward, and backward to the image and all weights."""
    level, image = _example(conditions)
    wanted = [image.requires_grad_(), *level.parameters()]

    def results(run: Callable[[Tensor], Tensor]) -> Sequence[Tensor]:
        return torch.autograd.grad(run(image).square().mean(), wanted)

    return _compared(name, lambda: results(level), lambda: results(level.directly), conditions)


def _example(conditions: Conditions) -> tuple[Level, Tensor]:
    torch.manual_seed(0)
    return Level().to(conditions.device), torch.randn(1, 4, *[conditions.layers] * 3, device=conditions.device)


def _compared(name: str, ours: Results, direct: Results, conditions: Conditions) -> Figures:
    refuse_different(ours(), direct())
    case = Case(name, timed(ours, conditions.device), timed(direct, conditions.device))
    return case.ratios(case.pairs(conditions.repeats))


def refuse_different(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    """Raise unless two implementations computed the same."""
    for a, b in zip(found, wanted, strict=True):
        difference = float((a - b).norm() / b.norm())
        if not difference < SAME:
            raise ArithmeticError(f"the two implementations differ by {difference:.1e}: their times mean nothing")
