"""What a volume, a segmentation or a region holds: whether it was edited, and the volumes of segments."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from ..errors import UnsuitableVolume
from ..labelmap import box_around

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


def fingerprint(node: Source) -> str:
    """The same as before, in another session too, if voxels, names and order are; every voxel is looked at. The
    transform that a node is under does not count, nor what is in a node that is no source."""
    held: tuple[object, ...] = ()
    if node.IsA("vtkMRMLVolumeNode"):
        matrix, *_size = _grid(node)
        held = (*_rounded(matrix), _checksum(slicer.util.arrayFromVolume(node)) if node.GetImageData() else 0)
    elif node.IsA("vtkMRMLSegmentationNode"):
        held = tuple(_segment_fingerprints(node.GetSegmentation()))
    elif node.IsA("vtkMRMLMarkupsROINode"):
        size, matrix, inside_out = _box(node)
        held = (*_rounded(size), *_rounded(matrix), inside_out)
    return f"{zlib.crc32(repr(held).encode()):08x}"


def _segment_fingerprints(segmentation: slicer.vtkSegmentation) -> list[tuple[object, ...]]:
    """Segments of one image share its checksum, which costs more than the rest."""
    segments = [segmentation.GetSegment(each) for each in segmentation.GetSegmentIDs()]
    held = [(segment, segment.GetRepresentation(segmentation.GetSourceRepresentationName())) for segment in segments]
    checksums = {id(data): 0 if data is None else _data_checksum(data) for _segment, data in held}
    return [(segment.GetName(), segment.GetLabelValue(), checksums[id(data)]) for segment, data in held]


def _data_checksum(data: vtk.vtkDataObject) -> int:
    """Of labels without the zeros around them, which come and go with files; else of the points of a surface."""
    if not data.IsA("vtkOrientedImageData"):
        points = data.GetPoints() if data.IsA("vtkPolyData") else None
        return 0 if points is None else _checksum(vtk_to_numpy(points.GetData()))
    scalars = data.GetPointData().GetScalars()
    if scalars is None or not data.GetNumberOfPoints():
        return 0
    labels = vtk_to_numpy(scalars).reshape(data.GetDimensions()[::-1])
    box = box_around(labels)
    if box is None:
        return 0
    matrix, corner = vtk.vtkMatrix4x4(), [part.start for part in box[::-1]]
    data.GetImageToWorldMatrix(matrix)
    place = matrix.MultiplyPoint([*(first + low for first, low in zip(corner, data.GetExtent()[::2], strict=True)), 1])
    return zlib.crc32(repr(_rounded(place)).encode(), _checksum(labels[box]))


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, zlib.crc32(repr(array.shape).encode()))


def _rounded(values: Iterable[Any]) -> tuple[float, ...]:
    """As files keep them."""
    return tuple(round(float(value), 3) + 0.0 for value in values)


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
