"""Between the engine and the real MRML scene nothing moves: not a voxel, not a name, not a millimetre."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import slicer
import vtk

import slicerhost
from ScaleEquivSegLib.bundles import Label
from ScaleEquivSegLib.comparison import dice
from ScaleEquivSegLib.errors import UnsuitableVolume
from ScaleEquivSegLib.mrml.labels import labels_on_grid
from ScaleEquivSegLib.mrml.layouts import COMPARED_VIEWS, add_layouts
from ScaleEquivSegLib.mrml.products import earlier_product, product
from ScaleEquivSegLib.mrml.segmentations import import_segmentation, move_into
from ScaleEquivSegLib.mrml.side_by_side import Side, are_side_by_side, end_side_by_side, show_side_by_side
from ScaleEquivSegLib.mrml.volumes import volume_from_node
from ScaleEquivSegLib.volume import Volume, make_geometry

TERM = {
    "category": ["123037004", "SCT", "Anatomical Structure"],
    "type": ["12738006", "SCT", "Brain"],
    "modifier": ["7771000", "SCT", "Left"],
}
CLASSES = [Label(1, "Head", (255, 0, 0), TERM), Label(2, "Body", (0, 255, 0), {}), Label(3, "Tail", (0, 0, 255), {})]
OBLIQUE = np.array([[0.8, -0.48, 0.36], [0.6, 0.64, -0.48], [0.0, 0.6, 0.8]])
DIRECTIONS = {"plain": np.eye(3), "oblique": OBLIQUE, "left-handed": OBLIQUE * [1, 1, -1]}


@pytest.fixture(autouse=True)
def host() -> Iterator[slicerhost.Host]:
    host = slicerhost.start()
    add_layouts()
    yield host
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    host.clear_scene()
    host.raise_exceptions()


def volume_node(direction: np.ndarray, name: str = "scan") -> tuple[slicer.vtkMRMLScalarVolumeNode, Volume]:
    geometry = make_geometry((7, 6, 5), (0.5, 1.0, 2.0), direction, (3, -40, 12))
    volume = Volume(np.arange(210, dtype=np.int16).reshape(geometry.shape), geometry)
    return slicer.util.addVolumeFromArray(volume.array, geometry.ijk_to_ras, name=name), volume


def in_homogeneous(matrix: np.ndarray) -> np.ndarray:
    """As a matrix of a transform (4, 4)."""
    return np.pad(matrix, (0, 1)) + np.diag([0, 0, 0, 1])


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


def test_slicer_reads_a_segments_coded_terms() -> None:
    node, volume = volume_node(np.eye(3))
    result = import_segmentation(labels_like(volume), CLASSES, node, "result")
    tag = vtk.reference("")
    result.GetSegmentation().GetSegment("Segment_1").GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), tag)
    entry = slicer.vtkSlicerTerminologyEntry()
    assert slicer.vtkSlicerTerminologiesModuleLogic().DeserializeTerminologyEntry(str(tag), entry)
    assert entry.GetTerminologyContextName().startswith("Segmentation category")
    assert entry.GetAnatomicContextName().startswith("Anatomic codes")
    read = [entry.GetCategoryObject(), entry.GetTypeObject(), entry.GetTypeModifierObject()]
    assert [(term.GetCodingSchemeDesignator(), term.GetCodeValue(), term.GetCodeMeaning()) for term in read] == [
        ("SCT", "123037004", "Anatomical Structure"),
        ("SCT", "12738006", "Brain"),
        ("SCT", "7771000", "Left"),
    ]
    assert not entry.GetRegionObject().GetCodeValue()


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


@pytest.mark.parametrize("replacing", [False, True])
def test_a_result_under_a_transform_comes_back_voxel_by_voxel_with_the_saved_scene(
    tmp_path: Path, replacing: bool
) -> None:
    node, volume = volume_node(np.eye(3), name="scan")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(in_homogeneous(OBLIQUE)))
    node.SetAndObserveTransformNodeID(transform.GetID())
    result = import_segmentation(labels_like(volume), CLASSES, node, "result")
    if replacing:
        move_into(result, slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode"))
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    (result,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    for value in (1, 3):
        found = slicer.util.arrayFromSegmentBinaryLabelmap(result, f"Segment_{value}", slicer.util.getNode("scan"))
        assert np.array_equal(found > 0, labels_like(volume).array == value)


def test_a_second_result_gets_a_name_of_its_own() -> None:
    node, volume = volume_node(np.eye(3))
    names = [import_segmentation(labels_like(volume), CLASSES, node, "result").GetName() for _ in range(2)]
    assert names[0] == "result"
    assert names[1] != names[0]


# Side by side


def test_side_by_side_shows_one_segmentation_in_each_linked_view() -> None:
    node, volume = volume_node(np.eye(3))
    results = [import_segmentation(labels_like(volume), CLASSES, node, name) for name in ("one", "two")]
    show_side_by_side(node, [Side("One", [results[0]]), Side("Two", [results[1]])])
    for tag, title in zip(COMPARED_VIEWS, ("One", "Two"), strict=True):
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
    views = [slicer.app.layoutManager().sliceWidget(tag).mrmlSliceNode() for tag in COMPARED_VIEWS]
    return {n for n, view in enumerate(views) if display.IsDisplayableInView(view.GetID())}


def test_a_compared_segmentation_is_still_shown_in_all_other_views() -> None:
    node, volume = volume_node(np.eye(3))
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLViewNode")
    results = [import_segmentation(labels_like(volume), CLASSES, node, name) for name in ("one", "two")]
    show_side_by_side(node, [Side("One", [results[0]]), Side("Two", [results[1]])])
    others = [
        v for v in slicer.util.getNodesByClass("vtkMRMLAbstractViewNode") if v.GetSingletonTag() not in COMPARED_VIEWS
    ]
    assert any(view.IsA("vtkMRMLViewNode") for view in others)
    for result in results:
        assert all(result.GetDisplayNode().IsDisplayableInView(view.GetID()) for view in others)


def test_a_second_comparison_replaces_the_first_and_both_halves_are_rid_of_others() -> None:
    node, volume = volume_node(np.eye(3))
    first, second, third, other = (import_segmentation(labels_like(volume), CLASSES, node, n) for n in "abcd")
    show_side_by_side(node, [Side("A", [first]), Side("B", [second])])
    assert are_side_by_side(slicer.mrmlScene, [Side("A", [first]), Side("B", [second])])
    show_side_by_side(node, [Side("B", [second, third]), Side("C", [third])])
    assert slicer.app.layoutManager().sliceWidget(COMPARED_VIEWS[0]).mrmlSliceNode().GetLayoutLabel() == "B"
    assert [compared_in(s) for s in (first, second, third, other)] == [set(), {0}, {0, 1}, set()]
    assert not are_side_by_side(slicer.mrmlScene, [Side("A", [first]), Side("B", [second])])


def test_all_is_shown_as_before_when_the_comparison_ends() -> None:
    node, volume = volume_node(np.eye(3))
    first, second = (import_segmentation(labels_like(volume), CLASSES, node, n) for n in "ab")
    red = slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode").GetID()
    first.GetDisplayNode().SetViewNodeIDs([red])
    first.GetDisplayNode().SetVisibility(False)
    second.GetDisplayNode().SetVisibility3D(False)
    show_side_by_side(node, [Side("A", [first]), Side("B", [second])])
    assert all(each.GetDisplayNode().GetVisibility() for each in (first, second))
    assert all(each.GetDisplayNode().GetVisibility3D() for each in (first, second))
    for _ in range(2):  # the second time nothing is left to do
        end_side_by_side(slicer.mrmlScene)
        assert list(first.GetDisplayNode().GetViewNodeIDs()) == [red]
        assert not first.GetDisplayNode().GetVisibility()
        assert not second.GetDisplayNode().GetVisibility3D()
        assert not list(second.GetDisplayNode().GetViewNodeIDs())


def test_both_halves_have_a_linked_3d_view_with_one_surface() -> None:
    node, volume = volume_node(np.eye(3))
    results = [import_segmentation(labels_like(volume), CLASSES, node, name) for name in ("one", "two")]
    show_side_by_side(node, [Side("One", [results[0]]), Side("Two", [results[1]])])
    views = [slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLViewNode") for name in COMPARED_VIEWS]
    assert [view.GetLayoutLabel() for view in views] == ["One", "Two"]
    assert all(view.GetLinkedControl() for view in views)
    for result, shown in zip(results, ([True, False], [False, True]), strict=True):
        assert [bool(result.GetDisplayNode().IsDisplayableInView(view.GetID())) for view in views] == shown
        assert result.GetSegmentation().ContainsRepresentation("Closed surface")


# Labels out of the scene


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_labels_come_back_voxel_by_voxel_numbered_by_their_order(direction: str) -> None:
    node, volume = volume_node(DIRECTIONS[direction])
    labels = labels_like(volume)
    nodes_before = slicer.mrmlScene.GetNumberOfNodes()
    result = import_segmentation(labels, CLASSES, node, "result")
    made = slicer.mrmlScene.GetNumberOfNodes() - nodes_before
    found = labels_on_grid(result, node)
    assert np.array_equal(found.labelmap.volume.array, labels.array)
    assert found.labelmap.volume.geometry.agrees_with(volume.geometry, tolerance_mm=1e-9)
    assert found.labelmap.names == {1: "Head", 2: "Body", 3: "Tail"}
    assert not found.overlapping
    assert slicer.mrmlScene.GetNumberOfNodes() - nodes_before == made  # nothing temporary is left


def test_a_segmentation_made_of_surfaces_gives_labels_too() -> None:
    geometry = make_geometry((30, 30, 30), (1.0, 1.0, 1.0), OBLIQUE, (3, -40, 12))
    cube = np.zeros(geometry.shape, np.uint8)
    cube[6:24, 6:24, 6:24] = 1
    node = slicer.util.addVolumeFromArray(cube, geometry.ijk_to_ras, name="cube")
    result = import_segmentation(Volume(cube, geometry), CLASSES[:1], node, "result")
    result.CreateClosedSurfaceRepresentation()
    result.GetSegmentation().SetSourceRepresentationName("Closed surface")
    result.GetSegmentation().RemoveRepresentation("Binary labelmap")
    assert dice(labels_on_grid(result, node).labelmap.volume.array == 1, cube == 1) > 0.97


def test_surfaces_of_several_segments_are_told_apart_whatever_layers_their_voxels_have() -> None:
    geometry = make_geometry((30, 30, 30), (1.0, 1.0, 1.0), OBLIQUE, (3, -40, 12))
    wanted = np.zeros(geometry.shape, np.uint8)
    wanted[3:27, 3:27, 3:14], wanted[3:27, 3:27, 16:27] = 1, 2
    node = slicer.util.addVolumeFromArray(wanted, geometry.ijk_to_ras, name="blocks")
    result = import_segmentation(Volume(wanted, geometry), CLASSES[:2], node, "result")
    result.CreateClosedSurfaceRepresentation()
    result.GetSegmentation().SetSourceRepresentationName("Closed surface")
    result.GetSegmentation().RemoveRepresentation("Binary labelmap")
    found = labels_on_grid(result, node).labelmap
    assert [found.names[value] for value in (1, 2)] == ["Head", "Body"]
    assert all(dice(found.volume.array == value, wanted == value) > 0.95 for value in (1, 2))


def test_labels_are_laid_on_the_grid_of_a_picture_in_colours_and_on_none_without_voxels() -> None:
    node, volume = volume_node(np.eye(3))
    result = import_segmentation(labels_like(volume), CLASSES, node, "result")
    colours = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colours")
    slicer.util.updateVolumeFromArray(colours, np.repeat(volume.array[..., None], 3, -1))
    colours.CopyOrientation(node)
    found = labels_on_grid(result, colours).labelmap.volume.array
    assert np.array_equal(found, labels_on_grid(result, node).labelmap.volume.array)
    bare = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "bare")
    with pytest.raises(UnsuitableVolume, match="bare has no voxels"):
        labels_on_grid(result, bare)


def test_a_segmentation_of_nothing_gives_no_labels_wherever_it_lies() -> None:
    node, volume = volume_node(np.eye(3))
    nothing = import_segmentation(Volume(np.zeros_like(volume.array), volume.geometry), CLASSES, node, "nothing")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(in_homogeneous(OBLIQUE)))
    for place in (node, nothing):
        place.SetAndObserveTransformNodeID(transform.GetID())
        found = labels_on_grid(nothing, node).labelmap
        assert found.volume.array.shape == volume.array.shape
        assert not found.volume.array.any()


def test_a_segmentation_without_segments_is_refused() -> None:
    node, _volume = volume_node(np.eye(3))
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    with pytest.raises(UnsuitableVolume, match="empty has no segments"):
        labels_on_grid(empty, node)


# What was made of what


def test_a_product_is_known_by_its_sources_in_their_order_and_its_kind() -> None:
    first, second = (volume_node(np.eye(3), name)[0] for name in "ab")
    table = product("vtkMRMLTableNode", "figures", [first, second], "figures")
    assert product("vtkMRMLTableNode", "figures", [first, second], "other name") is table
    assert earlier_product("figures", [second, first]) is None
    assert earlier_product("figures", [first]) is None
    assert earlier_product("others", [first, second]) is None
    slicer.mrmlScene.RemoveNode(second)
    assert earlier_product("figures", [first]) is None  # it was made of two
