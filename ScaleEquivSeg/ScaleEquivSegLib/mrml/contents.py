"""What a segmentation holds: whether it was edited, and the volumes of its segments."""

from __future__ import annotations

from collections import Counter

import numpy as np
import slicer

from ..errors import UnsuitableVolume

Contents = tuple[tuple[object, ...], ...]
"""Only to be compared with one of the same node, in the same session."""


def contents_of(node: slicer.vtkMRMLSegmentationNode) -> Contents:
    """Differs from what it was before if voxels, names, order or place of segments were changed since; not for what
    only concerns how they are shown. Cheap, as no voxel is looked at."""
    segmentation, parent = node.GetSegmentation(), node.GetParentTransformNode()
    source = segmentation.GetSourceRepresentationName()
    segments = ((i, segmentation.GetSegment(i)) for i in segmentation.GetSegmentIDs())
    return (
        (node.GetTransformNodeID(), parent.GetTransformToWorldMTime() if parent is not None else 0),
        *((i, segment.GetName(), _modified(segment.GetRepresentation(source))) for i, segment in segments),
    )


def _modified(representation: object) -> int:
    return representation.GetMTime() if representation is not None else 0  # type: ignore[attr-defined]


def volumes_ml(node: slicer.vtkMRMLSegmentationNode) -> dict[str, float]:
    """The volume of each segment by name, counted in the segmentation's own voxels."""
    if not node.CreateBinaryLabelmapRepresentation():
        raise UnsuitableVolume(f"{node.GetName()} cannot be turned into voxels.")
    ml: Counter[str] = Counter()
    for segment_id in node.GetSegmentation().GetSegmentIDs():
        segment = node.GetSegmentation().GetSegment(segment_id)
        image = segment.GetRepresentation(slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName())
        voxels = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, segment_id)
        count = 0 if image.IsEmpty() else int((voxels == segment.GetLabelValue()).sum())
        ml[segment.GetName()] += count * float(np.prod(image.GetSpacing())) / 1000
    return dict(ml)
