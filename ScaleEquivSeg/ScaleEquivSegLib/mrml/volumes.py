"""Volumes out of the scene, as the engine takes them."""

from __future__ import annotations

import slicer
import vtk
from slicer.i18n import tr as _

from ..errors import UnsuitableVolume
from ..volume import Geometry, Volume
from .placing import matrix_between


def volume_from_node(
    node: slicer.vtkMRMLScalarVolumeNode, beside: slicer.vtkMRMLScalarVolumeNode | None = None
) -> Volume:
    """The node's voxels and grid, in the node's own coordinates, or in those of another volume beside it.

    The transform that both are under is not applied: the result goes under it, too.
    """
    return Volume(slicer.util.arrayFromVolume(node), grid_of(node, beside))


def grid_of(node: slicer.vtkMRMLVolumeNode, beside: slicer.vtkMRMLVolumeNode | None = None) -> Geometry:
    """The same of the grid alone, however many values each voxel has."""
    if not has_voxels(node):
        raise UnsuitableVolume(_("{name} has no voxels; load it again.").format(name=node.GetName()))
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    i, j, k = node.GetImageData().GetDimensions()
    return Geometry((k, j, i), matrix_between(node, beside or node) @ slicer.util.arrayFromVTKMatrix(matrix))


def has_voxels(node: slicer.vtkMRMLVolumeNode) -> bool:
    """Whether the voxels are here, and not just their place."""
    return node.GetImageData() is not None and node.GetImageData().GetNumberOfPoints() > 0


def check_scan(node: slicer.vtkMRMLScalarVolumeNode | None) -> None:
    """Refuse what cannot be segmented, whatever its voxels hold, saying what to choose."""
    if node is None:
        raise UnsuitableVolume(_("Choose a volume."))
    if not has_voxels(node):
        raise UnsuitableVolume(_("The volume has no voxels."))
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise UnsuitableVolume(_("This is a label map; choose the scan it belongs to."))
    if node.GetImageData().GetNumberOfScalarComponents() != 1:
        raise UnsuitableVolume(_("This volume has several values per voxel; extract one component first."))
