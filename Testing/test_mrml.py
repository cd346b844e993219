"""Between the engine and the real MRML scene nothing moves: not a voxel, not a name, not a millimetre."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import slicer
import vtk

import slicerhost
from ScaleEquivSegLib.bundles import Label
from ScaleEquivSegLib.mrml.segmentations import import_segmentation
from ScaleEquivSegLib.mrml.side_by_side import SIDE_BY_SIDE_VIEWS, show_side_by_side
from ScaleEquivSegLib.mrml.volumes import volume_from_node
from ScaleEquivSegLib.volume import Volume, make_geometry

TERM = {"category": ["123037004", "SCT", "Anatomical Structure"], "type": ["12738006", "SCT", "Brain"]}
CLASSES = [Label(1, "Head", (255, 0, 0), TERM), Label(2, "Body", (0, 255, 0), {}), Label(3, "Tail", (0, 0, 255), {})]
OBLIQUE = np.array([[0.8, -0.48, 0.36], [0.6, 0.64, -0.48], [0.0, 0.6, 0.8]])
DIRECTIONS = {"plain": np.eye(3), "oblique": OBLIQUE, "left-handed": OBLIQUE * [1, 1, -1]}


@pytest.fixture(autouse=True)
def host() -> Iterator[slicerhost.Host]:
    host = slicerhost.start()
    yield host
    host.clear_scene()
    host.raise_exceptions()


def volume_node(direction: np.ndarray, name: str = "scan") -> tuple[slicer.vtkMRMLScalarVolumeNode, Volume]:
    geometry = make_geometry((7, 6, 5), (0.5, 1.0, 2.0), direction, (3, -40, 12))
    volume = Volume(np.arange(210, dtype=np.int16).reshape(geometry.shape), geometry)
    return slicer.util.addVolumeFromArray(volume.array, geometry.ijk_to_ras, name=name), volume


def labels_like(volume: Volume) -> Volume:
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[1:3, 2:4, 1:6] = 1
    labels[3:, 4:, 5:] = 3  # class 2 is absent
    return Volume(labels, volume.geometry)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_node_gives_its_voxels_and_its_grid(direction: str) -> None:
    node, volume = volume_node(DIRECTIONS[direction])
    found = volume_from_node(node)
    assert np.array_equal(found.array, volume.array)
    assert found.geometry.agrees_with(volume.geometry, tolerance_mm=1e-9)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_labels_arrive_voxel_by_voxel_with_their_names_and_colours(direction: str) -> None:
    node, volume = volume_node(DIRECTIONS[direction])
    labels = labels_like(volume)
    result = import_segmentation(labels, CLASSES, node, "result")
    for label in CLASSES:
        found = slicer.util.arrayFromSegmentBinaryLabelmap(result, f"Segment_{label.value}", node)
        assert np.array_equal(found > 0, labels.array == label.value)
        segment = result.GetSegmentation().GetSegment(f"Segment_{label.value}")
        assert segment.GetName() == label.name
        assert np.allclose(np.array(segment.GetColor()) * 255, label.color)
    assert not node.GetScene().GetNodesByClass("vtkMRMLLabelMapVolumeNode").GetNumberOfItems()


def test_a_segment_carries_its_coded_terms() -> None:
    node, volume = volume_node(np.eye(3))
    result = import_segmentation(labels_like(volume), CLASSES, node, "result")
    entry = vtk.reference("")
    result.GetSegmentation().GetSegment("Segment_1").GetTag("TerminologyEntry", entry)
    context, category, kind, *_ = str(entry).split("~")
    assert context.startswith("Segmentation category")
    assert (category, kind) == ("123037004^SCT^Anatomical Structure", "12738006^SCT^Brain")


def test_the_result_goes_where_the_scan_goes() -> None:
    node, volume = volume_node(np.eye(3))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetAndObserveTransformNodeID(transform.GetID())
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), study)
    result = import_segmentation(labels_like(volume), CLASSES, node, "result")
    assert result.GetTransformNodeID() == transform.GetID()
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result)) == study
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert result.GetNodeReferenceID(role) == node.GetID()


def test_a_second_result_gets_a_name_of_its_own() -> None:
    node, volume = volume_node(np.eye(3))
    names = [import_segmentation(labels_like(volume), CLASSES, node, "result").GetName() for _ in range(2)]
    assert names[0] == "result"
    assert names[1] != names[0]


def test_side_by_side_shows_one_segmentation_in_each_linked_view() -> None:
    node, volume = volume_node(np.eye(3))
    results = [import_segmentation(labels_like(volume), CLASSES, node, name) for name in ("one", "two")]
    show_side_by_side(node, [("One", results[0]), ("Two", results[1])])
    for tag, title in zip(SIDE_BY_SIDE_VIEWS, ("One", "Two"), strict=True):
        widget = slicer.app.layoutManager().sliceWidget(tag)
        view = widget.mrmlSliceNode()
        composite = widget.sliceLogic().GetSliceCompositeNode()
        assert view.GetLayoutLabel() == title
        assert composite.GetBackgroundVolumeID() == node.GetID()
        assert composite.GetLinkedControl()
    assert [compared_in(result) for result in results] == [{0}, {1}]


def compared_in(segmentation: slicer.vtkMRMLSegmentationNode) -> set[int]:
    """Which of the two compared views show a segmentation."""
    display = segmentation.GetDisplayNode()
    views = [slicer.app.layoutManager().sliceWidget(tag).mrmlSliceNode() for tag in SIDE_BY_SIDE_VIEWS]
    return {n for n, view in enumerate(views) if display.IsDisplayableInView(view.GetID())}


def test_a_compared_segmentation_is_still_shown_in_all_other_views() -> None:
    node, volume = volume_node(np.eye(3))
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLViewNode")
    results = [import_segmentation(labels_like(volume), CLASSES, node, name) for name in ("one", "two")]
    show_side_by_side(node, [("One", results[0]), ("Two", results[1])])
    others = [
        v
        for v in slicer.util.getNodesByClass("vtkMRMLAbstractViewNode")
        if v.GetSingletonTag() not in SIDE_BY_SIDE_VIEWS
    ]
    assert any(view.IsA("vtkMRMLViewNode") for view in others)
    for result in results:
        assert all(result.GetDisplayNode().IsDisplayableInView(view.GetID()) for view in others)


def test_a_second_comparison_replaces_the_first_and_leaves_other_segmentations_alone() -> None:
    node, volume = volume_node(np.eye(3))
    first, second, third, other = (import_segmentation(labels_like(volume), CLASSES, node, n) for n in "abcd")
    show_side_by_side(node, [("A", first), ("B", second)])
    show_side_by_side(node, [("B", second), ("C", third)])
    assert slicer.app.layoutManager().sliceWidget(SIDE_BY_SIDE_VIEWS[0]).mrmlSliceNode().GetLayoutLabel() == "B"
    assert [compared_in(s) for s in (first, second, third)] == [set(), {0}, {1}]
    show_side_by_side(node, [("A", first), ("C", third)])
    assert [compared_in(s) for s in (first, second, third)] == [{0}, set(), {1}]
    assert not list(other.GetDisplayNode().GetViewNodeIDs())  # still in all views
