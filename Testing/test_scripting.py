"""The module for scripts: what its logic makes is what the panel makes of the same nodes, here and now."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk

import slicerhost
from panel_user import MODULE, OBLIQUE, QUICK, ThisProcess, User, labels_of, node_ids
from ScaleEquivSegLib import scripting
from ScaleEquivSegLib.bundles import CARD, Label, bundled_models
from ScaleEquivSegLib.card import SEAL
from ScaleEquivSegLib.errors import (
    BadBundle,
    BadRequest,
    Cancelled,
    MissingPackage,
    SegmentationError,
    UnsuitableVolume,
)
from ScaleEquivSegLib.mrml.segmentations import import_segmentation, reference_volume
from ScaleEquivSegLib.panel.models import Models
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.volume import Volume, read_volume

TILTED = PhantomSpec(seed=2, size=(40, 36, 20), spacing=(1.5, 1.5, 3), direction=OBLIQUE)
TINY = PhantomSpec(seed=1, size=(24, 24, 24))


@pytest.fixture
def logic() -> Iterator[Any]:
    host = slicerhost.start()
    _module, widget = host.load_module(MODULE)
    yield widget.logic
    host.close()
    host.raise_exceptions()


def volume_of(spec: PhantomSpec, name: str = "scan") -> Any:
    image = make_phantom(spec).channels[0]
    return slicer.util.addVolumeFromArray(image.array, image.geometry.ijk_to_ras, name=name)


def exact_labels(spec: PhantomSpec, volume: Any, name: str = "exact", shift: int = 0) -> Any:
    labels = make_phantom(spec).labels
    classes = [Label(1, "Head", (9, 9, 9), {}), Label(2, "Body", (99, 9, 9), {})]
    return import_segmentation(Volume(np.roll(labels.array, shift, 2), labels.geometry), classes, volume, name)


def placed(volume: Any) -> None:
    """Under a transform, and in a study of the subject hierarchy."""
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    for row, values in enumerate([(0, -1, 0, 100), (1, 0, 0, 20), (0, 0, 1, 5)]):
        for column, value in enumerate(values):
            matrix.SetElement(row, column, value)
    transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), study)


def described(node: Any, volume: Any) -> dict[str, Any]:
    """All that a result says of itself but its name."""
    segmentation = node.GetSegmentation()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    segments = [segmentation.GetSegment(segment_id) for segment_id in segmentation.GetSegmentIDs()]
    tag = slicer.vtkSegment.GetTerminologyEntryTagName()
    return {
        "voxels": labels_of(node, volume).tobytes(),
        "segments": [(s.GetName(), s.GetColor(), s.GetTag(tag, vtk.reference(""))) for s in segments],
        "attributes": {name: node.GetAttribute(name) for name in node.GetAttributeNames()},
        "volume": reference_volume(node).GetID(),
        "transform": node.GetTransformNodeID(),
        "study": hierarchy.GetItemName(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))),
    }


def cells(table: Any) -> list[list[Any]]:
    columns = [table.GetTable().GetColumn(n) for n in range(table.GetTable().GetNumberOfColumns())]
    rows = [[column.GetValue(row) for column in columns] for row in range(table.GetTable().GetNumberOfRows())]
    return [[column.GetName() for column in columns], *rows]


# Segment


def test_a_script_and_the_panel_make_the_same_segmentation(user: User) -> None:
    user.quicken(ThisProcess)
    volume = user.load(TILTED)
    placed(volume)
    user.choose(volume)
    user.start()
    user.wait()
    (of_panel,) = user.results
    of_script = user.widget.logic.segment(volume, "phantom-unet", device="cpu")
    assert [node.GetName() for node in user.results] == ["scan baseline", "scan baseline_1"]
    assert described(of_script, volume) == described(of_panel, volume)
    said = described(of_script, volume)
    assert said["study"] == "study"
    assert said["transform"] == volume.GetTransformNodeID()
    assert json.loads(said["attributes"]["ScaleEquivSeg.ml"]).keys() == {"Head", "Body"}
    assert labels_of(of_script, volume).any()


def test_with_a_region_there_are_labels_in_it_alone_and_an_output_is_replaced(logic: Any) -> None:
    volume = volume_of(QUICK)
    output = logic.segment(volume, bundled_models() / "phantom-unet", device="cpu")
    whole = labels_of(output, volume)
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    bounds = np.zeros(6)
    volume.GetRASBounds(bounds)
    centre, side = (bounds[::2] + bounds[1::2]) / 2, bounds[1::2] - bounds[::2]
    region.SetCenter(*(centre - side / 4))
    region.SetSize(*(side / 2))
    assert logic.segment(volume, "phantom-unet", device="cpu", region=region, output=output) is output
    inside = np.zeros(whole.shape, bool)
    inside[:16, :16, :16] = True
    assert np.array_equal(labels_of(output, volume), np.where(inside, whole, 0))
    assert labels_of(output, volume).any()


def test_channels_are_handed_over_in_their_order_with_all_settings(logic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = [volume_of(QUICK, "one"), volume_of(TINY, "two")]
    asked: list[Any] = []

    def look(request: Any, *_rest: Any) -> Any:
        asked.append((request.settings, [read_volume(path).array.shape for path in request.inputs]))
        raise Cancelled

    monkeypatch.setattr(scripting, "answer", look)
    with pytest.raises(Cancelled):
        logic.segment(volumes, "phantom-unet", device="cpu", mirror=True)
    assert asked == [({"device": "cpu", "mirror": True}, [(32, 32, 32), (24, 24, 24)])]


def test_a_model_in_a_folder_that_was_added_in_the_panel_is_known_by_its_name(logic: Any, tmp_path: Path) -> None:
    mine = shutil.copytree(bundled_models() / "phantom-unet", tmp_path / "ours" / "folder")
    card = json.loads((mine / CARD).read_text())
    del card[SEAL]
    (mine / CARD).write_text(json.dumps({**card, "name": "mine"}))
    Models().add_folder(tmp_path / "ours")
    try:
        node = logic.segment(volume_of(TINY), "mine", device="cpu")
        assert node.GetAttribute("ScaleEquivSeg.bundle") == "mine"
    finally:
        Models().remove_folder(tmp_path / "ours")


def test_what_is_worth_knowing_of_a_result_is_logged(logic: Any, caplog: pytest.LogCaptureFixture) -> None:
    volume = slicer.util.addVolumeFromArray(np.zeros((8, 8, 8), np.int16), name="empty")
    with caplog.at_level(logging.WARNING):
        node = logic.segment(volume, "phantom-unet", device="cpu")
    assert not labels_of(node, volume).any()
    assert "same value everywhere" in caplog.text


# Compare


def test_a_script_and_the_panel_compare_to_the_same_table_and_maps(user: User) -> None:
    user.quicken(ThisProcess)
    volume = user.load(TILTED)
    one, two, truth = (exact_labels(TILTED, volume, name, n) for n, name in enumerate(["one", "two", "truth"]))
    table, maps = user.widget.logic.compare(one, two, reference=truth)
    names = ["one / two: agreement", "one: errors against truth", "two: errors against truth"]
    assert [node.GetName() for node in maps] == names
    of_script = cells(table), [described(node, volume) for node in maps]
    user.ui.comparedASelector.setCurrentNode(one)
    user.ui.comparedBSelector.setCurrentNode(two)
    user.ui.referenceSelector.setCurrentNode(truth)
    user.ui.compareButton.click()
    user.wait()
    assert user.ui.compareStatusLabel.text == "Done."
    assert (cells(table), [described(node, volume) for node in maps]) == of_script  # the panel's took their place
    assert len(slicer.util.getNodesByClass("vtkMRMLTableNode")) == 1
    assert [row[:2] for row in cells(table)[1:3]] == [["A/B", "Head"], ["A/B", "Body"]]


def test_without_a_reference_there_is_one_map(logic: Any) -> None:
    volume = volume_of(TINY)
    table, maps = logic.compare(exact_labels(TINY, volume, "one"), exact_labels(TINY, volume, "two", 1))
    assert [node.GetName() for node in maps] == ["one / two: agreement"]
    assert len(cells(table)) == 4


def test_segmentations_that_name_no_volume_are_compared_on_the_one_that_is_given(logic: Any) -> None:
    volume = volume_of(TINY)
    pair = exact_labels(TINY, volume, "one"), exact_labels(TINY, volume, "two", 1)
    table, (agreement,) = logic.compare(*pair)
    figures = cells(table)
    for node in pair:
        node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), None)
    with pytest.raises(UnsuitableVolume, match="give volumeNode"):
        logic.compare(*pair)
    assert logic.compare(*pair, volumeNode=volume) == (table, [agreement])
    assert cells(table) == figures


# Sweep


def test_a_script_and_the_panel_sweep_to_the_same_table_and_chart(user: User) -> None:
    user.quicken(ThisProcess)
    volume = user.load(TINY)
    truth = exact_labels(TINY, volume)
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    region.SetSize(16, 18, 20)
    layout = slicer.app.layoutManager().layout
    bundles = ["phantom-se_unet", "phantom-unet"]
    scales = np.array([0.7, 1.0])
    table, chart = user.widget.logic.sweep(volume, bundles, scales, reference=truth, region=region, device="cpu")
    assert slicer.app.layoutManager().layout == layout
    of_script = cells(table), chart.GetNumberOfPlotSeriesNodes(), chart.GetTitle()
    user.choose(volume, "Both")
    user.ui.referenceSelector.setCurrentNode(truth)
    user.ui.regionSelector.setCurrentNode(region)
    user.ui.probeFromSpinBox.value = 0.7
    user.ui.probeToSpinBox.value = 1.0
    user.ui.probeStepsSpinBox.value = 2
    user.ui.probeButton.click()
    user.wait()
    assert user.status == "Done."
    assert (cells(table), chart.GetNumberOfPlotSeriesNodes(), chart.GetTitle()) == of_script
    assert [row[0] for row in cells(table)[1:]] == [0.7, 1.0]
    assert chart.GetNumberOfPlotSeriesNodes() == 4
    slicer.app.layoutManager().setLayout(layout)


# What goes wrong


def test_a_script_stops_a_run_by_raising_when_it_is_told_of_progress(logic: Any) -> None:
    volume = volume_of(QUICK)
    before, told = node_ids(), []

    def progress(phase: str, fraction: float) -> None:
        told.append(phase)
        if phase == "Segmenting":
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        logic.segment(volume, "phantom-unet", device="cpu", progress=progress)
    assert "Loading the network" in told
    assert node_ids() == before


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda logic, scan, labels: logic.segment(scan, "nobodys"), BadBundle, "phantom-se_unet, phantom-unet"),
        (lambda logic, scan, labels: logic.segment(scan, "phantom-unet", slob=3), BadRequest, "slob"),
        (lambda logic, scan, labels: logic.segment([], "phantom-unet"), UnsuitableVolume, "Choose a volume"),
        (lambda logic, scan, labels: logic.segment([scan, scan], "phantom-unet"), UnsuitableVolume, "takes 1 volume"),
        (lambda logic, scan, labels: logic.segment(labels[2], "phantom-unet"), UnsuitableVolume, "label map"),
        (lambda logic, scan, labels: logic.compare(labels[0], labels[0]), UnsuitableVolume, "differ from each other"),
        (lambda logic, scan, labels: logic.compare(labels[0], labels[1]), UnsuitableVolume, "different volumes"),
        (lambda logic, scan, labels: logic.sweep(scan, []), BadBundle, "at least one"),
        (lambda logic, scan, labels: logic.sweep(scan, ["phantom-unet"] * 2), BadBundle, "same name"),
        (lambda logic, scan, labels: logic.sweep(scan, "phantom-unet", scales=[0.001]), BadRequest, "'scales'"),
        (lambda logic, scan, labels: logic.sweep(scan, "phantom-unet", reference=labels[1]), UnsuitableVolume, "Body"),
    ],
)
def test_what_cannot_be_done_is_an_error_and_leaves_the_scene_as_it_was(
    logic: Any, call: Callable[[Any, Any, Any], Any], error: type[SegmentationError], said: str
) -> None:
    scan, other = volume_of(TINY), volume_of(TINY, "other")
    head = import_segmentation(make_phantom(TINY).labels, [Label(1, "Head", (9, 9, 9), {})], other, "head")
    drawn = slicer.util.addVolumeFromArray(np.ones((4, 4, 4)), nodeClassName="vtkMRMLLabelMapVolumeNode")
    labels, before = [exact_labels(TINY, scan), head, drawn], node_ids()
    with pytest.raises(error, match=said):
        call(logic, scan, labels)
    assert node_ids() == before


def test_without_torch_a_script_is_told_what_to_install(logic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = MissingPackage("PyTorch is not installed; install it.")
    monkeypatch.setattr("ScaleEquivSegLib.requirements.package_problems", lambda: [missing])
    with pytest.raises(MissingPackage, match="install it"):
        logic.segment(volume_of(TINY), "phantom-unet")
