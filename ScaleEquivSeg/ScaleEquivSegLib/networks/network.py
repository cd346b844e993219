"""What every segmentation network offers to those who run it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from ..layers.maps import Origin


class SegmentationNetwork(nn.Module):
    """image (batch, in_channels, x, y, z) of any size -> class scores (batch, classes, x, y, z)."""

    @abstractmethod
    def forward(self, image: Tensor, origin: Origin = (0, 0, 0)) -> Tensor:
        """Score an image, or a crop of a volume that starts at voxel `origin`."""

    @property
    @abstractmethod
    def halo(self) -> int | None:
        """The margin, in voxels, that a crop needs to be scored exactly; None where no margin suffices."""

    @abstractmethod
    def milestones(self) -> Sequence[nn.Module]:
        """Modules that run once each in a forward pass: by them progress is counted."""
