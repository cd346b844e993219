"""The real module file and its `.ui` on the stand-in host, clicked through as a user would."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

import slicerhost
from panel_user import OBLIQUE, QUICK, SECONDS_AT_MOST, SLOW, User, alive, labels_of
from ScaleEquivSegLib.bundles import bundled_models
from ScaleEquivSegLib.cli import main as command_line
from ScaleEquivSegLib.panel import worker_process
from ScaleEquivSegLib.panel.job import time_left
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.volume import Volume, read_volume, write_volume
from small_pictures import untrained_bundle


def test_the_panel_lists_no_model_that_classifies_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    untrained_bundle(tmp_path)
    shutil.copytree(bundled_models() / "phantom-unet", tmp_path / "phantom-unet")
    monkeypatch.setattr("ScaleEquivSegLib.panel.models.bundled_models", lambda: tmp_path)
    host = slicerhost.start()
    selector = User(host).ui.taskSelector
    assert [selector.itemText(n) for n in range(selector.count)] == ["phantom"]
    host.close()
    host.raise_exceptions()


def test_segment_cannot_be_pressed_until_there_is_something_to_segment(user: User) -> None:
    assert not user.ui.segmentButton.enabled
    assert user.status == "Choose a volume."
    assert user.ui.segmentButton.toolTip == "Choose a volume."
    user.choose(user.load(QUICK))
    assert user.ui.segmentButton.enabled
    assert not user.ui.cancelButton.enabled
    assert not user.ui.sideBySideButton.enabled


def test_both_networks_give_a_segmentation_each_and_the_volumes_table(user: User) -> None:
    volume = user.load(QUICK)
    user.choose(volume, "Both")
    user.start()
    assert user.running
    assert not user.ui.segmentButton.enabled
    assert not user.ui.inputSection.enabled
    user.wait()
    assert user.status == "Done."
    assert [node.GetName() for node in user.results] == ["scan equivariant", "scan baseline"]
    table = user.ui.volumesTable
    assert [table.horizontalHeaderItem(c).text() for c in range(2)] == ["Equivariant", "Baseline"]
    for column, node in enumerate(user.results):
        labels = labels_of(node, volume)
        for row in range(2):
            millilitres = (labels == row + 1).sum() * QUICK.geometry().voxel_ml
            assert float(table.item(row, column).text()) == pytest.approx(millilitres, abs=0.006)


@pytest.mark.parametrize("direction", [PhantomSpec().direction, OBLIQUE], ids=["plain", "oblique"])
def test_the_panel_and_the_command_line_give_the_same_voxels(user: User, tmp_path: Path, direction: Any) -> None:
    spec = PhantomSpec(seed=6, size=(40, 36, 24), spacing=(1, 1.2, 1.6), direction=direction)
    phantom = make_phantom(spec)
    write_volume(phantom.channels[0], tmp_path / "scan.nrrd")
    volume = user.load(spec)
    user.choose(volume, "Both")
    user.start()
    user.wait()
    for node, bundle in zip(user.results, ["phantom-se_unet", "phantom-unet"], strict=True):
        output = tmp_path / f"{bundle}.seg.nrrd"
        assert command_line(["segment", str(tmp_path / "scan.nrrd"), "-o", str(output), "--bundle", bundle]) == 0
        labels = read_volume(output)
        assert np.array_equal(labels_of(node, volume), labels.array)
        assert labels.array.any()
        assert labels.geometry.agrees_with(phantom.labels.geometry)
        assert node.GetAttribute("ScaleEquivSeg.bundle") == bundle


@pytest.mark.parametrize(("network", "name"), [("Equivariant", "scan equivariant"), ("Baseline", "scan baseline")])
def test_one_network_alone_gives_one_segmentation(user: User, network: str, name: str) -> None:
    user.choose(user.load(QUICK), network)
    user.start()
    user.wait()
    assert [node.GetName() for node in user.results] == [name]
    assert not user.ui.sideBySideButton.enabled


def test_a_second_run_overwrites_nothing_and_needs_no_new_worker(user: User) -> None:
    user.choose(user.load(QUICK))
    user.start()
    user.wait()
    pid = user.worker_pid
    user.start()
    user.wait()
    assert len(user.results) == 2
    assert user.worker_pid == pid


def test_show_3d_makes_surfaces_and_hides_them_again(user: User) -> None:
    user.choose(user.load(QUICK))
    user.start()
    user.wait()
    (node,) = user.results
    user.ui.show3DButton.click()
    assert node.GetSegmentation().ContainsRepresentation("Closed surface")
    assert node.GetDisplayNode().GetVisibility3D()
    user.ui.show3DButton.click()
    assert not node.GetDisplayNode().GetVisibility3D()
    user.host.raise_exceptions()


def test_in_a_region_the_result_is_that_of_the_whole_volume_and_outside_there_is_none(user: User) -> None:
    volume = user.load(QUICK)
    user.choose(volume)
    user.start()
    user.wait()
    region = user.ui.regionSelector.addNode()
    corner, side = np.array(region.GetCenter()), np.array(region.GetSize())
    region.SetCenter(*(corner - side / 4))
    region.SetSize(*(side / 2))
    user.host.process_events()
    user.start()
    user.wait()
    whole, confined = (labels_of(node, volume) for node in user.results)
    inside = np.zeros(whole.shape, bool)
    inside[:16, :16, :16] = True  # the grid is upright, and the region its lower half along each axis
    assert np.array_equal(confined, np.where(inside, whole, 0))
    assert confined.any()


def test_a_killed_worker_is_reported_and_the_panel_works_again(user: User) -> None:
    volume = user.load(SLOW)
    user.choose(volume, "Equivariant")
    user.start()
    user.wait_until_computing()
    os.kill(user.worker_pid, signal.SIGKILL)
    user.wait()
    assert "killed or crashed" in user.status
    assert not user.results
    assert not user.ui.progressBar.visible
    user.choose(user.load(QUICK, "small"))
    user.start()
    user.wait()
    assert user.status == "Done."
    assert len(user.results) == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, ""), (0.2, ", about 0 s left"), (89.6, ", about 90 s left"), (95, ", about 2 min left")],
)
def test_the_time_left_is_said_in_words_once_it_is_known(seconds: float | None, said: str) -> None:
    assert time_left(seconds) == said


def test_a_worker_that_cannot_start_is_reported_with_its_log_and_the_panel_works_again(
    user: User, tmp_path: Path
) -> None:
    (tmp_path / "ScaleEquivSegLib").mkdir()
    (tmp_path / "ScaleEquivSegLib" / "__init__.py").touch()
    (tmp_path / "ScaleEquivSegLib" / "worker.py").write_text("raise SystemExit('the disk is gone')")
    user.choose(user.load(QUICK))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_process, "LIBRARY_PARENT", tmp_path)
        user.start()
        user.wait()
    assert user.status == "The computing process ended with code 1: it failed, crashed, or was killed. the disk is gone"
    assert not user.results
    user.start()
    user.wait()
    assert user.status == "Done."
    assert len(user.results) == 1


def test_a_temporary_folder_that_cannot_be_used_is_reported_and_the_panel_works_again(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.quicken()
    user.choose(user.load(QUICK))
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
        user.start()
        user.wait()
    assert user.status.startswith("The temporary folder cannot be used: ")
    assert str(tmp_path / "gone") in user.status
    user.start()
    user.wait()
    assert user.status == "Done."


def test_cancel_ends_a_run_within_two_seconds_without_results(user: User) -> None:
    user.choose(user.load(SLOW), "Equivariant")
    user.start()
    user.wait_until_computing()
    pid = user.worker_pid
    started = time.monotonic()
    user.ui.cancelButton.click()
    user.wait()
    assert time.monotonic() - started < 2.5  # 2 s, and what a busy test machine adds
    assert user.status == "Cancelled."
    assert not user.results
    user.host.close()
    assert not alive(pid)


def test_closing_the_scene_in_mid_run_ends_the_run_and_its_worker(user: User) -> None:
    user.choose(user.load(SLOW), "Equivariant")
    user.start()
    user.wait_until_computing()
    pid = user.worker_pid
    user.host.clear_scene()
    assert not user.running
    assert not alive(pid)
    assert not user.results
    assert "scene was closed during the run" in user.status
    user.choose(user.load(QUICK))
    user.start()
    user.wait()
    assert len(user.results) == 1


def test_a_run_goes_on_while_the_user_works_in_another_module(user: User) -> None:
    user.choose(user.load(QUICK), "Both")
    user.start()
    user.host.select_module("segmentations")
    user.wait()
    assert len(user.results) == 2
    user.host.select_module("ScaleEquivSeg")
    assert user.status == "Done."
    assert user.ui.volumesTable.rowCount == 2
    assert user.ui.sideBySideButton.enabled


def test_a_cancel_that_comes_too_late_still_keeps_nothing(user: User) -> None:
    user.choose(user.load(QUICK))
    user.start()
    job = user.widget.panel.desk._job
    assert user.host.wait_until(lambda: "Segmenting" in user.status, SECONDS_AT_MOST)
    job._cancelled = True  # as pressed when the result is already on its way
    user.wait()
    assert user.status == "Cancelled."
    assert not user.results


def test_results_of_different_volumes_are_not_compared(user: User) -> None:
    first, second = user.load(QUICK, "first"), user.load(QUICK, "second")
    for volume, network in ((first, "Equivariant"), (second, "Baseline")):
        user.choose(volume, network)
        user.start()
        user.wait()
    assert not user.ui.sideBySideButton.enabled
    assert user.ui.sideBySideButton.toolTip == "These segmentations belong to different volumes."


def test_a_result_made_while_3d_is_shown_is_shown_in_3d(user: User) -> None:
    user.choose(user.load(QUICK))
    user.start()
    user.wait()
    user.ui.show3DButton.click()
    user.start()
    user.wait()
    assert all(node.GetSegmentation().ContainsRepresentation("Closed surface") for node in user.results)


def test_what_is_no_scan_is_refused_with_the_reason(user: User) -> None:
    parameters = user.widget.logic.getParameterNode()
    array = np.ones((4, 4, 4), np.uint8)
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    labels = slicer.util.addVolumeFromArray(array, nodeClassName="vtkMRMLLabelMapVolumeNode")
    for volume, reason in ((empty, "no voxels"), (labels, "label map")):
        parameters.inputVolumes = [volume]
        assert reason in user.status
        assert not user.ui.segmentButton.enabled


def test_a_volume_deleted_in_mid_run_ends_the_run_with_the_reason(user: User) -> None:
    volume = user.load(QUICK)
    user.choose(volume)
    user.start()
    slicer.mrmlScene.RemoveNode(volume)
    user.wait()
    assert "scan was deleted during the run" in user.status
    assert not user.ui.segmentButton.enabled
    assert not user.results


def test_the_result_belongs_to_the_volume_chosen_at_the_start(user: User) -> None:
    first, second = user.load(QUICK, "first"), user.load(QUICK, "second")
    user.choose(first)
    user.start()
    user.widget.logic.getParameterNode().inputVolumes = [second]
    user.wait()
    (node,) = user.results
    assert node.GetName() == "first baseline"
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReferenceID(role) == first.GetID()


def test_a_volume_that_cannot_be_segmented_is_refused_with_the_reason(user: User) -> None:
    volume = user.load(QUICK)
    array = slicer.util.arrayFromVolume(volume).astype(np.float32)
    array[0, 0, 0] = np.nan
    slicer.util.updateVolumeFromArray(volume, array)
    user.choose(volume)
    user.start()
    user.wait()
    assert "NaN" in user.status
    assert user.ui.segmentButton.enabled
    slicer.mrmlScene.StartState(slicer.mrmlScene.BatchProcessState)
    slicer.mrmlScene.EndState(slicer.mrmlScene.BatchProcessState)
    assert "NaN" in user.status  # until something else is done here


def test_a_constant_volume_gives_an_empty_segmentation_and_a_warning(user: User) -> None:
    geometry = QUICK.geometry()
    empty = Volume(np.zeros(geometry.shape, np.int16), geometry)
    volume = slicer.util.addVolumeFromArray(empty.array, geometry.ijk_to_ras, name="empty")
    user.choose(volume, "Both")
    user.start()
    user.wait()
    assert "same value everywhere" in user.status
    assert not labels_of(user.results[0], volume).any()
    user.ui.sideBySideButton.click()
    user.host.raise_exceptions()


def test_a_scene_saved_and_reopened_shows_the_panel_as_it_was(user: User, tmp_path: Path) -> None:
    user.choose(user.load(QUICK, "kept"), "Equivariant")
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    user.host.clear_scene()
    assert user.ui.networkSelector.currentText == "Both"
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    user.host.process_events()
    assert user.ui.networkSelector.currentText == "Equivariant"
    assert user.ui.deviceSelector.currentText == "CPU"
    assert user.channel_selector().currentNode().GetName() == "kept"
    assert user.ui.segmentButton.enabled
