"""Where nodes of the scene lie as seen from one another, by the transforms they are under."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ..errors import BadRegion, UnsuitableVolume
from ..roi import Box


def matrix_between(node: slicer.vtkMRMLTransformableNode, other: slicer.vtkMRMLTransformableNode) -> np.ndarray:
    """From a node's own coordinates to those of another (4, 4); what no matrix can say is an error."""
    if node.GetTransformNodeID() == other.GetTransformNodeID():
        return np.eye(4)
    for each in (node, other):
        parent = each.GetParentTransformNode()
        if parent is not None and not parent.IsTransformToWorldLinear():
            raise UnsuitableVolume(
                _(
                    "{name} is under a transform that bends space; harden that transform (Data module), or take {name} "
                    "out of it."
                ).format(name=each.GetName())
            )
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(
        node.GetParentTransformNode(), other.GetParentTransformNode(), matrix
    )
    return slicer.util.arrayFromVTKMatrix(matrix)


def region_seen_from(volume: slicer.vtkMRMLVolumeNode, region: slicer.vtkMRMLMarkupsROINode) -> Box:
    """A region of interest as a box in a volume's own coordinates."""
    name = region.GetName()
    if min(region.GetSize()) <= 0:
        raise BadRegion(
            _("The region of interest {name} has no size; draw it in a slice view first.").format(name=name)
        )
    if region.GetInsideOut():
        raise BadRegion(
            _("The region of interest {name} is inside out; turn that off in the Markups module.").format(name=name)
        )
    matrix = matrix_between(region, volume) @ slicer.util.arrayFromVTKMatrix(region.GetObjectToNodeMatrix())
    edges = (matrix[:3, :3] * region.GetSize()).T
    sides = np.linalg.norm(edges, axis=1)
    axes = edges / sides[:, None]
    if np.abs(axes @ axes.T - np.eye(3)).max() > 1e-6:
        raise BadRegion(
            _("The region of interest {name} is no box any more where the volume lies; its transform shears.").format(
                name=name
            )
        )
    return Box.from_values({"centre": matrix[:3, 3].tolist(), "axes": axes.tolist(), "sides": sides.tolist()})
