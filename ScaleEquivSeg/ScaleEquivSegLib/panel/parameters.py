"""The panel's choices, kept in the scene."""

from __future__ import annotations

from enum import Enum

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper


class NetworkChoice(Enum):
    """Which of a task's networks to run."""

    BOTH = "both"
    EQUIVARIANT = "equivariant"
    BASELINE = "baseline"

    def label(self) -> str:
        """What the selector shows."""
        return {
            NetworkChoice.BOTH: _("Both"),
            NetworkChoice.EQUIVARIANT: _("Equivariant"),
            NetworkChoice.BASELINE: _("Baseline"),
        }[self]


class DeviceChoice(Enum):
    """Where to compute."""

    AUTO = "auto"
    CUDA = "cuda"
    MPS = "mps"
    CPU = "cpu"

    def label(self) -> str:
        """What the selector shows."""
        return _("Auto") if self is DeviceChoice.AUTO else self.name


@parameterNodeWrapper
class ScaleEquivSegParameterNode:
    """Saved with the scene, so that a scene reopened shows the panel as it was left."""

    task: str
    inputVolume: vtkMRMLScalarVolumeNode
    network: NetworkChoice = NetworkChoice.BOTH
    device: DeviceChoice = DeviceChoice.AUTO
    equivariantSegmentation: vtkMRMLSegmentationNode
    baselineSegmentation: vtkMRMLSegmentationNode
