"""The section Result, clicked: where results go, what is replaced and when, volumes, and surfaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk

from panel_user import OBLIQUE, QUICK, FullScene, User, labels_of, node_ids
from quick_answers import quick_labels
from ScaleEquivSegLib.mrml.segmentations import reference_volume
from ScaleEquivSegLib.phantom import PhantomSpec

TURNED = PhantomSpec(seed=3, size=(20, 24, 16), spacing=(2, 1.5, 3), direction=OBLIQUE)
NETWORKS = ("Equivariant", "Baseline")


@pytest.fixture
def quick(user: User) -> User:
    """A panel whose worker computes nothing, with a volume chosen and both networks."""
    user.quicken()
    user.choose(user.load(TURNED), "Both")
    user.host.dialogs.clear()
    user.host.answer = True
    return user


def own_segmentation(name: str) -> Any:
    """A segmentation of the user's, with one segment of their own."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.GetSegmentation().AddEmptySegment("mine", "Mine")
    node.SetAttribute("ScaleEquivSeg.seconds", "old")
    node.SetAttribute("theirs", "kept")
    return node


def tag(node: Any, segment: str, name: str) -> str:
    found = vtk.reference("")
    node.GetSegmentation().GetSegment(segment).GetTag(name, found)
    return str(found)


def segment_names(node: Any) -> list[str]:
    segmentation = node.GetSegmentation()
    return [segmentation.GetSegment(each).GetName() for each in segmentation.GetSegmentIDs()]


def test_without_another_choice_each_run_makes_new_segmentations_and_asks_nothing(quick: User) -> None:
    for count in (2, 4):
        quick.start()
        quick.wait()
        assert len(quick.results) == count
    assert quick.host.dialogs == []


def test_an_existing_segmentation_is_replaced_by_exactly_the_result_after_one_question(quick: User) -> None:
    volume = quick.channel_selector().currentNode()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    volume.SetAndObserveTransformNodeID(transform.GetID())
    first, second = own_segmentation("first"), own_segmentation("second")
    ids = [first.GetID(), second.GetID()]
    quick.ui.equivariantOutputSelector.setCurrentNode(first)
    quick.ui.baselineOutputSelector.setCurrentNode(second)
    quick.start()
    quick.wait()
    (question,) = quick.host.dialogs
    assert question.kind == "question"
    assert question.text == "All segments of first and second will be replaced by the new result."
    assert quick.status == "Done."
    assert [node.GetID() for node in quick.results] == ids
    assert [node.GetName() for node in quick.results] == ["first", "second"]
    array = slicer.util.arrayFromVolume(volume)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    for node, bundle in ((first, "phantom-se_unet"), (second, "phantom-unet")):
        assert segment_names(node) == ["Head", "Body"]
        assert np.array_equal(labels_of(node, volume), quick_labels(array))
        assert node.GetTransformNodeID() == transform.GetID()
        assert reference_volume(node) is volume
        assert "123037004" in tag(node, "Segment_1", "TerminologyEntry")
        assert node.GetAttribute("ScaleEquivSeg.bundle").endswith(bundle)
        assert node.GetAttribute("ScaleEquivSeg.seconds") is None
        assert node.GetAttribute("theirs") == "kept"
        item, beside = hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(volume)
        assert hierarchy.GetItemParent(item) == hierarchy.GetItemParent(beside)


def test_a_replacement_that_is_declined_changes_nothing_and_starts_nothing(quick: User) -> None:
    node = own_segmentation("mine")
    quick.ui.baselineOutputSelector.setCurrentNode(node)
    quick.host.answer = False
    quick.ui.segmentButton.click()
    assert not quick.running
    assert segment_names(node) == ["Mine"]
    quick.host.answer = True


def test_only_what_the_chosen_network_would_replace_is_asked_about(quick: User) -> None:
    quick.ui.baselineOutputSelector.setCurrentNode(own_segmentation("mine"))
    quick.ui.networkSelector.currentText = "Equivariant"
    quick.start()
    quick.wait()
    assert quick.host.dialogs == []
    assert segment_names(quick.parameters.baselineOutput) == ["Mine"]


def test_both_results_cannot_go_into_one_segmentation(quick: User) -> None:
    node = own_segmentation("mine")
    quick.ui.equivariantOutputSelector.setCurrentNode(node)
    quick.ui.baselineOutputSelector.setCurrentNode(node)
    assert quick.status == "Both results would go into mine; choose another output for one of them."
    assert not quick.ui.segmentButton.enabled
    quick.ui.networkSelector.currentText = "Baseline"
    assert quick.ui.segmentButton.enabled


def test_a_run_whose_output_is_deleted_meanwhile_ends_with_the_reason(quick: User) -> None:
    node = own_segmentation("mine")
    quick.ui.equivariantOutputSelector.setCurrentNode(node)
    quick.start()
    slicer.mrmlScene.RemoveNode(node)
    quick.wait()
    assert quick.status == "mine was deleted during the run; the result was discarded."
    assert quick.results == []
    quick.start()
    quick.wait()
    assert quick.status == "Done."


@pytest.mark.parametrize("moved", ["hardened", "centred", "put under a transform"])
def test_a_result_lies_on_the_volume_wherever_that_was_moved_meanwhile(quick: User, moved: str) -> None:
    (volume,) = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    wanted = quick_labels(slicer.util.arrayFromVolume(volume))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    turn = [[0.0, -1.0, 0.0, 12.0], [1.0, 0.0, 0.0, -7.0], [0.0, 0.0, 1.0, 30.0], [0.0, 0.0, 0.0, 1.0]]
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.array(turn)))
    quick.start()
    if moved == "centred":
        volume.SetOrigin(1, 2, 3)
    else:
        volume.SetAndObserveTransformNodeID(transform.GetID())
    if moved == "hardened":
        volume.HardenTransform()
    quick.wait()
    assert quick.status == "Done. scan was changed during the run; the result is of what it was before."
    for node in quick.results:
        assert np.array_equal(labels_of(node, volume), wanted)


def test_a_result_of_a_volume_that_was_cut_meanwhile_is_discarded(quick: User) -> None:
    (volume,) = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    quick.start()
    slicer.util.updateVolumeFromArray(volume, slicer.util.arrayFromVolume(volume)[1:])
    quick.wait()
    assert quick.status.startswith("scan has other voxels than when the run began; the result was discarded.")
    assert quick.results == []


def test_a_result_that_cannot_be_read_leaves_what_it_would_replace_as_it_was(
    quick: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = own_segmentation("mine")
    quick.ui.equivariantOutputSelector.setCurrentNode(node)
    worker = quick.widget.panel.desk.worker
    answer = worker._answer

    def spoilt(request: dict[str, Any]) -> dict[str, Any]:
        reply: dict[str, Any] = answer(request)
        if "phantom-unet" in request["bundle"]:
            Path(reply["output"]).write_bytes(b"NRRD0004\n")
        return reply

    monkeypatch.setattr(worker, "_answer", spoilt)
    quick.start()
    quick.wait()
    assert "phantom-unet.seg.nrrd" in quick.status
    assert segment_names(node) == ["Mine"]
    assert quick.results == [node]


def test_a_result_that_cannot_be_imported_takes_the_others_along(quick: User, monkeypatch: pytest.MonkeyPatch) -> None:
    node = own_segmentation("mine")
    quick.ui.equivariantOutputSelector.setCurrentNode(node)
    before = node_ids()
    with monkeypatch.context() as patch:
        patch.setattr(slicer.modules.segmentations, "_logic", FullScene(taken=1))
        quick.start()
        quick.wait()
    assert "Slicer could not import the labels" in quick.status
    assert node_ids() == before
    assert segment_names(node) == ["Mine"]
    quick.start()
    quick.wait()
    assert quick.status == "Done."


def shown_volumes(user: User) -> dict[tuple[str, str], float]:
    table = user.ui.volumesTable
    return {
        (table.verticalHeaderItem(row).text(), table.horizontalHeaderItem(column).text()): float(
            table.item(row, column).text()
        )
        for row in range(table.rowCount)
        for column in range(table.columnCount)
    }


def test_volumes_are_shown_by_segment_and_network_and_come_back_with_the_scene(quick: User, tmp_path: Path) -> None:
    assert shown_volumes(quick) == {}
    quick.start()
    quick.wait()
    shown = shown_volumes(quick)
    volume = quick.channel_selector().currentNode()
    for network, node in zip(NETWORKS, quick.results, strict=True):
        for value, name in ((1, "Head"), (2, "Body")):
            ml = (labels_of(node, volume) == value).sum() * np.prod(TURNED.spacing) / 1000
            assert shown[f"{name} (ml)", network] == pytest.approx(ml, abs=0.006)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    quick.host.clear_scene()
    assert shown_volumes(quick) == {}
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    quick.host.process_events()
    assert shown_volumes(quick) == shown
    slicer.mrmlScene.RemoveNode(quick.results[0])
    quick.host.process_events()
    assert {network for _segment, network in shown_volumes(quick)} == {"Baseline"}


def test_volumes_of_other_scans_than_the_chosen_one_are_said_to_be(quick: User) -> None:
    note = quick.ui.volumesNote
    quick.start()
    quick.wait()
    assert note.isHidden()
    header = quick.ui.volumesTable.horizontalHeaderItem
    assert [header(column).toolTip() for column in range(2)] == [node.GetName() for node in quick.results]
    first = [node.GetName() for node in quick.results]
    quick.choose(quick.load(QUICK, "next"), "Equivariant")
    assert note.text == f"Not of the volume chosen in Input: {first[0]}, {first[1]}."
    quick.start()
    quick.wait()
    assert note.text == f"Not of the volume chosen in Input: {first[1]}."
    slicer.mrmlScene.RemoveNode(quick.channel_selector().currentNode())
    quick.host.process_events()
    assert note.text == "The results are of different volumes."
    quick.ui.networkSelector.currentText = "Both"


def test_volumes_of_an_edited_result_are_out_of_date_until_they_are_measured_again(quick: User) -> None:
    quick.start()
    quick.wait()
    before, volume = shown_volumes(quick), quick.channel_selector().currentNode()
    note, button = quick.ui.volumesNote, quick.ui.measureButton
    assert note.isHidden()
    assert button.isHidden()
    found = quick.results[1]
    smaller = (labels_of(found, volume) == 1).astype(np.uint8)
    smaller[:4] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(smaller, found, "Segment_1", volume)
    found.GetSegmentation().AddEmptySegment("mine", "Mine")
    quick.host.process_events()
    assert note.text == "Out of date: Baseline was edited after its volumes were measured."
    assert shown_volumes(quick) == before
    button.click()
    assert note.isHidden()
    assert button.isHidden()
    counted = smaller.sum() * np.prod(TURNED.spacing) / 1000
    table = quick.ui.volumesTable
    assert [table.verticalHeaderItem(row).text() for row in range(table.rowCount)][2] == "Mine (ml)"
    columns = [[table.item(row, column).text() for row in range(table.rowCount)] for column in range(2)]
    assert columns[0] == [*(f"{before[f'{name} (ml)', 'Equivariant']:.2f}" for name in ("Head", "Body")), ""]
    assert columns[1] == [f"{counted:.2f}", f"{before['Body (ml)', 'Baseline']:.2f}", "0.00"]
    quick.ui.baselineOutputSelector.setCurrentNode(found)
    slicer.util.updateSegmentBinaryLabelmapFromArray(0 * smaller, found, "Segment_1", volume)
    quick.start()
    quick.wait()
    assert note.isHidden()  # a new run has replaced what was edited
    assert shown_volumes(quick)["Head (ml)", "Baseline"] == before["Head (ml)", "Baseline"]


def test_a_result_that_goes_where_its_volume_is_is_up_to_date(quick: User) -> None:
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    quick.channel_selector().currentNode().SetAndObserveTransformNodeID(transform.GetID())
    node = own_segmentation("elsewhere")
    quick.ui.equivariantOutputSelector.setCurrentNode(node)
    quick.start()
    quick.wait()
    quick.host.process_events()
    assert node.GetTransformNodeID() == transform.GetID()
    assert quick.ui.volumesNote.isHidden()
    node.SetAndObserveTransformNodeID(None)
    quick.host.process_events()
    assert quick.ui.volumesNote.text == "Out of date: Equivariant was edited after its volumes were measured."


def test_show_3d_follows_new_results_and_the_ones_they_replace(quick: User) -> None:
    quick.ui.networkSelector.currentText = "Equivariant"
    assert not quick.ui.show3DButton.enabled
    quick.start()
    quick.wait()
    (node,) = quick.results
    assert not quick.ui.show3DButton.checked
    quick.ui.show3DButton.click()
    quick.ui.equivariantOutputSelector.setCurrentNode(node)
    quick.start()
    quick.wait()
    assert quick.ui.show3DButton.checked
    assert node.GetSegmentation().ContainsRepresentation("Closed surface")
    quick.ui.show3DButton.click()
    assert not node.GetDisplayNode().GetVisibility3D()
    node.GetDisplayNode().SetVisibility3D(True)  # as Data does, and hides them again
    quick.host.process_events()
    assert quick.ui.show3DButton.checked
    node.GetDisplayNode().SetVisibility3D(False)
    quick.host.process_events()
    assert not quick.ui.show3DButton.checked
    quick.ui.show3DButton.click()
    assert node.GetDisplayNode().GetVisibility3D()
    slicer.mrmlScene.RemoveNode(node)
    quick.host.process_events()
    assert not quick.ui.show3DButton.enabled


def test_surfaces_that_are_shown_side_by_side_alone_do_not_press_show_3d(quick: User) -> None:
    quick.start()
    quick.wait()
    quick.ui.sideBySideButton.click()
    quick.host.process_events()
    assert all(node.GetDisplayNode().GetVisibility3D() for node in quick.results)
    assert not quick.ui.show3DButton.checked
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    quick.host.process_events()
    assert not quick.ui.show3DButton.checked
    assert not any(node.GetDisplayNode().GetVisibility3D() for node in quick.results)
