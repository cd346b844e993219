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
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    ijk_to_ras = matrix_between(node, beside or node) @ slicer.util.arrayFromVTKMatrix(matrix)
    array = slicer.util.arrayFromVolume(node)
    return Volume(array, Geometry(array.shape, ijk_to_ras))


def check_scan(node: slicer.vtkMRMLScalarVolumeNode | None) -> None:
    """Refuse what cannot be segmented, whatever its voxels hold, saying what to choose."""
    if node is None:
        raise UnsuitableVolume(_("Choose a volume."))
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise UnsuitableVolume(_("The volume has no voxels."))
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise UnsuitableVolume(_("This is a label map; choose the scan it belongs to."))
    if image.GetNumberOfScalarComponents() != 1:
        raise UnsuitableVolume(_("This volume has several values per voxel; extract one component first."))
