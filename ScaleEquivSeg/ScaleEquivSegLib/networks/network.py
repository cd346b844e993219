"""What every segmentation network offers to those who run it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class SegmentationNetwork(nn.Module):
    """image (batch, in_channels, x, y, z) of any size -> class scores (batch, classes, x, y, z)."""

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Score an image."""

    @abstractmethod
    def milestones(self) -> Sequence[nn.Module]:
        """Modules that run once each in a forward pass: by them progress is counted."""
