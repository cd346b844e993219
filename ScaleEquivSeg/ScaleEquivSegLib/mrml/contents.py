"""What a volume, a segmentation or a region holds: whether it was edited, and the volumes of segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ..errors import UnsuitableVolume

Source: TypeAlias = "slicer.vtkMRMLScalarVolumeNode | slicer.vtkMRMLSegmentationNode | slicer.vtkMRMLMarkupsROINode"
"""What something was made of, and a user may change later."""

Contents: TypeAlias = tuple[tuple[object, ...], ...]
"""Only to be compared with one of the same node, in the same session."""


def contents_of(node: Source) -> Contents:
    """Differs from what it was before if voxels, names, order or place were changed since, not for what only concerns
    how they are shown. Cheap, as no voxel is looked at."""
    return (*place_of(node), *_held_by(node))


def place_of(node: Source) -> Contents:
    """The transform that a node is under and, of a volume, its grid."""
    parent = node.GetParentTransformNode()
    place = (node.GetTransformNodeID(), parent.GetTransformToWorldMTime() if parent is not None else 0)
    return (place, *(_grid(node) if node.IsA("vtkMRMLVolumeNode") else ()))


def edited_since(before: Mapping[Source, Contents]) -> list[Source]:
    """The nodes that do not hold any more what they held."""
    return [node for node, contents in before.items() if contents_of(node) != contents]


def _held_by(node: Source) -> Contents:
    if node.IsA("vtkMRMLVolumeNode"):
        return _voxels(node)
    return _segments(node) if node.IsA("vtkMRMLSegmentationNode") else _box(node)


def _grid(node: slicer.vtkMRMLScalarVolumeNode) -> Contents:
    matrix, image = vtk.vtkMatrix4x4(), node.GetImageData()
    node.GetIJKToRASMatrix(matrix)
    return tuple(slicer.util.arrayFromVTKMatrix(matrix).ravel()), () if image is None else image.GetDimensions()


def _voxels(node: slicer.vtkMRMLScalarVolumeNode) -> Contents:
    image = node.GetImageData()
    return ((image, 0 if image is None else image.GetMTime()),)


def _segments(node: slicer.vtkMRMLSegmentationNode) -> Contents:
    segmentation = node.GetSegmentation()
    source = segmentation.GetSourceRepresentationName()
    segments = [(each, segmentation.GetSegment(each)) for each in segmentation.GetSegmentIDs()]
    held = [(each, segment.GetName(), segment.GetRepresentation(source)) for each, segment in segments]
    return tuple((*names, 0 if voxels is None else voxels.GetMTime()) for *names, voxels in held)


def _box(node: slicer.vtkMRMLMarkupsROINode) -> Contents:
    matrix = slicer.util.arrayFromVTKMatrix(node.GetObjectToNodeMatrix())
    return (tuple(node.GetSize()), tuple(matrix.ravel()), (node.GetInsideOut(),))


def volumes_ml(node: slicer.vtkMRMLSegmentationNode) -> dict[str, float]:
    """The volume of each segment by name, counted in the segmentation's own voxels."""
    if not node.CreateBinaryLabelmapRepresentation():
        raise UnsuitableVolume(_("{name} cannot be turned into voxels.").format(name=node.GetName()))
    ml: dict[str, float] = {}
    for segment_id in node.GetSegmentation().GetSegmentIDs():
        segment = node.GetSegmentation().GetSegment(segment_id)
        image = segment.GetRepresentation(slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName())
        voxels = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, segment_id)
        count = 0 if image.IsEmpty() else int((voxels == segment.GetLabelValue()).sum())
        name = segment.GetName()
        ml[name] = ml.get(name, 0.0) + count * float(np.prod(image.GetSpacing())) / 1000
    return ml
