"""Labels out of segmentation nodes, whoever made them, on the grid of a volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ..errors import UnsuitableVolume
from ..labelmap import Labelmap
from ..volume import Volume
from .volumes import grid_of


@dataclass(frozen=True, eq=False)
class FoundLabels:
    """The labels of a segmentation; where segments overlap the last one counts."""

    labelmap: Labelmap
    overlapping: int
    """Voxels in more than one segment."""


def labels_on_grid(node: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLScalarVolumeNode) -> FoundLabels:
    """A segmentation's segments as labels 1, 2, ... on a volume's grid, wherever both are in the world."""
    segmentation = node.GetSegmentation()
    ids = list(segmentation.GetSegmentIDs())
    if not ids:
        raise UnsuitableVolume(_("{name} has no segments; choose another segmentation.").format(name=node.GetName()))
    if not node.CreateBinaryLabelmapRepresentation():
        raise UnsuitableVolume(
            _("{name} cannot be turned into voxels; choose another segmentation.").format(name=node.GetName())
        )
    geometry = grid_of(volume)
    labels, overlapping = np.zeros(geometry.shape, np.uint16), np.zeros(geometry.shape, bool)
    # Segments of one layer cannot overlap, so that one export serves them all.
    voxels = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    for layer in range(segmentation.GetNumberOfLayers(voxels)):
        if _is_empty(segmentation.GetLayerDataObject(layer, voxels)):
            continue  # Slicer cannot lay it on another grid
        in_layer = list(segmentation.GetSegmentIDsForLayer(layer, voxels))
        values = np.array([0, *(1 + ids.index(segment_id) for segment_id in in_layer)], np.uint16)
        exported = values[_exported(node, in_layer, volume)]
        overlapping |= (labels != 0) & (exported != 0)
        labels[exported != 0] = exported[exported != 0]
    names = {number: segmentation.GetSegment(segment_id).GetName() for number, segment_id in enumerate(ids, 1)}
    return FoundLabels(Labelmap(Volume(labels, geometry), tuple(names), names), int(overlapping.sum()))


def _is_empty(layer: slicer.vtkOrientedImageData) -> bool:
    """Whether no voxel is in any segment of a layer."""
    scalars = layer.GetPointData().GetScalars()
    return scalars is None or scalars.GetRange()[1] == 0


def _exported(
    node: slicer.vtkMRMLSegmentationNode, segment_ids: list[str], volume: slicer.vtkMRMLScalarVolumeNode
) -> np.ndarray:
    """Some segments as values 1, 2, ... in their order."""
    scene, ids = volume.GetScene(), vtk.vtkStringArray()
    for segment_id in segment_ids:
        ids.InsertNextValue(segment_id)
    labelmap = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    try:
        if not slicer.modules.segmentations.logic().ExportSegmentsToLabelmapNode(node, ids, labelmap, volume):
            raise UnsuitableVolume(
                _("{name} cannot be laid on the grid of {volume}.").format(name=node.GetName(), volume=volume.GetName())
            )
        return np.array(slicer.util.arrayFromVolume(labelmap))
    finally:
        if labelmap.GetDisplayNode() is not None:
            scene.RemoveNode(labelmap.GetDisplayNode().GetColorNode())  # the export made one of its own
        scene.RemoveNode(labelmap)
