"""The panel's choices, kept in the scene."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import slicer
from slicer import (
    vtkMRMLMarkupsROINode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


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


class PrecisionChoice(Enum):
    """In which numbers to compute."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"

    def label(self) -> str:
        """What the selector shows."""
        return {
            PrecisionChoice.FLOAT32: _("Single (float32)"),
            PrecisionChoice.FLOAT16: _("Half (float16)"),
            PrecisionChoice.BFLOAT16: _("Half (bfloat16)"),
        }[self]


@parameterNodeWrapper
class ScaleEquivSegParameterNode:
    """Saved with the scene, so that a scene reopened shows the panel as it was left."""

    task: str
    taskChosen: bool = False
    """Whether the user has chosen the task, or a volume for it; else it follows the names of volumes."""
    inputVolumes: list[vtkMRMLScalarVolumeNode]
    regionOfInterest: vtkMRMLMarkupsROINode

    network: NetworkChoice = NetworkChoice.BOTH
    equivariantModel: str
    baselineModel: str

    device: str = "auto"
    precision: PrecisionChoice = PrecisionChoice.FLOAT32
    planesAtOnce: Annotated[int, WithinRange(0, 4096)] = 0
    mirror: bool = False
    replaceNonfinite: bool = False

    equivariantOutput: vtkMRMLSegmentationNode
    baselineOutput: vtkMRMLSegmentationNode

    # The latest results.
    equivariantResult: vtkMRMLSegmentationNode
    baselineResult: vtkMRMLSegmentationNode
    show3D: bool = False

    # What is compared: the latest results, or what the user has chosen since.
    equivariantSegmentation: vtkMRMLSegmentationNode
    baselineSegmentation: vtkMRMLSegmentationNode
    reference: vtkMRMLSegmentationNode

    probeFrom: Annotated[float, WithinRange(0.25, 1.0)] = 0.5
    probeTo: Annotated[float, WithinRange(1.0, 4.0)] = 2.0
    probeSteps: Annotated[int, WithinRange(2, 15)] = 5


def forget(parameters: Any, node: slicer.vtkMRMLNode) -> None:
    """Choose a node nowhere any more."""
    with slicer.util.NodeModify(parameters.parameterNode):
        if node in parameters.inputVolumes:
            parameters.inputVolumes = [None if each is node else each for each in parameters.inputVolumes]
        for name in ScaleEquivSegParameterNode.__annotations__:
            if getattr(parameters, name) is node:
                setattr(parameters, name, None)
