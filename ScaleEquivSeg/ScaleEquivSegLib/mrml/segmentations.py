"""Labels into the scene, as segmentations that Slicer knows how to show, edit and export."""

from __future__ import annotations

from collections.abc import Sequence

import slicer
import vtk
from slicer.i18n import tr as _

from ..bundles import Label
from ..volume import Volume

ATTRIBUTES = "ScaleEquivSeg."
"""How the names of our attributes of nodes begin."""


def import_segmentation(
    labels: Volume, classes: Sequence[Label], reference: slicer.vtkMRMLScalarVolumeNode, name: str
) -> slicer.vtkMRMLSegmentationNode:
    """Make a segmentation node from labels on the reference volume's grid; it goes where the reference goes."""
    scene = reference.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    segment_ids = vtk.vtkStringArray()
    for label in classes:
        segment_id = f"Segment_{label.value}"
        color = [part / 255 for part in label.color]
        node.GetSegmentation().AddEmptySegment(segment_id, label.name, color)
        node.GetSegmentation().GetSegment(segment_id).SetTag(
            slicer.vtkSegment.GetTerminologyEntryTagName(), label.terminology_tag
        )
        segment_ids.InsertNextValue(segment_id)
    _import_labels(labels, node, segment_ids)
    _put_beside(node, reference)
    return node


def _import_labels(labels: Volume, node: slicer.vtkMRMLSegmentationNode, segment_ids: vtk.vtkStringArray) -> None:
    """Import all classes at once: label k goes to the k-th segment even when a class is absent."""
    labelmap = slicer.util.addVolumeFromArray(
        labels.array, labels.geometry.ijk_to_ras, nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    try:
        logic = slicer.modules.segmentations.logic()
        if not logic.ImportLabelmapToSegmentationNode(labelmap, node, segment_ids):
            raise RuntimeError(_("Slicer could not import the labels into a segmentation."))
    finally:
        node.GetScene().RemoveNode(labelmap)


def _put_beside(node: slicer.vtkMRMLSegmentationNode, reference: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Into the same place as the reference, and the same folder or study of the subject hierarchy."""
    node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
    # Only now: the grid is kept as it is seen from the segmentation, and a file is written on it.
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    item, beside = hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(reference)
    if item and beside:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(beside))


def move_into(new: slicer.vtkMRMLSegmentationNode, existing: slicer.vtkMRMLSegmentationNode) -> None:
    """Replace what an existing segmentation holds by a new one, which leaves the scene; id and name stay."""
    reference = reference_volume(new)
    existing.GetSegmentation().DeepCopy(new.GetSegmentation())
    existing.CreateDefaultDisplayNodes()
    _put_beside(existing, reference)
    # Only now: whoever takes the move for an edit of what was here marks what was measured of that.
    for name in existing.GetAttributeNames():
        if name.startswith(ATTRIBUTES):
            existing.RemoveAttribute(name)
    for name in new.GetAttributeNames():
        existing.SetAttribute(name, new.GetAttribute(name))
    new.GetScene().RemoveNode(new)


def reference_volume(node: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLScalarVolumeNode | None:
    """The volume a segmentation was made from, None if it is gone."""
    return node.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())


def reference_notes(
    reference: slicer.vtkMRMLSegmentationNode | None, volume: slicer.vtkMRMLScalarVolumeNode
) -> list[str]:
    """What is worth knowing of a reference that was drawn on another volume."""
    drawn_on = None if reference is None else reference_volume(reference)
    if reference is None or drawn_on is None or drawn_on is volume:
        return []
    return [
        _("The reference {name} was made from {other}, not from {volume}.").format(
            name=reference.GetName(), other=drawn_on.GetName(), volume=volume.GetName()
        )
    ]


def show_closed_surfaces(nodes: Sequence[slicer.vtkMRMLSegmentationNode], visible: bool) -> None:
    """Show segmentations in the 3D views, or no longer."""
    for node in nodes:
        if visible:
            node.CreateClosedSurfaceRepresentation()
        node.CreateDefaultDisplayNodes()  # where there is none
        node.GetDisplayNode().SetVisibility3D(visible)
