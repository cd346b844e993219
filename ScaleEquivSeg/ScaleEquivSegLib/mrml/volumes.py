"""Volumes out of the scene, as the engine takes them."""

from __future__ import annotations

import slicer
import vtk

from ..volume import Geometry, Volume


def volume_from_node(node: slicer.vtkMRMLScalarVolumeNode) -> Volume:
    """The node's voxels and grid, in the node's own coordinates: a parent transform is not applied."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    array = slicer.util.arrayFromVolume(node)
    return Volume(array, Geometry(array.shape, slicer.util.arrayFromVTKMatrix(matrix)))
