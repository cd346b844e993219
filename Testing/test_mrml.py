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
