"""Volumes out of the scene, as the engine takes them."""

from __future__ import annotations

import slicer
import vtk

from ..volume import Geometry, Volume
from .placing import matrix_between


def volume_from_node(
    node: slicer.vtkMRMLScalarVolumeNode, beside: slicer.vtkMRMLScalarVolumeNode | None = None
) -> Volume:
    """The node's voxels and grid, in the node's own coordinates, or in those of another volume beside it.

    The transform that both are under is not applied: the result goes under it, too.
    """
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    ijk_to_ras = matrix_between(node, beside or node) @ slicer.util.arrayFromVTKMatrix(matrix)
    array = slicer.util.arrayFromVolume(node)
    return Volume(array, Geometry(array.shape, ijk_to_ras))
