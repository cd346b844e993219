"""The section Input, clicked: channels, their volumes and frames, and the region to segment."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk

from panel_user import OBLIQUE, QUICK, User
from ScaleEquivSegLib.bundles import Channel, bundled_models, find_bundles
from ScaleEquivSegLib.panel.assigning import suggested, task_meant
from ScaleEquivSegLib.roi import Box
from ScaleEquivSegLib.shades import Percentiles
from ScaleEquivSegLib.volume import read_volume
from test_bundles import change_card

BRATS = {"T1": ["*t1*"], "T1ce": ["*t1ce*", "*t1gd*"], "T2": ["*t2*"], "FLAIR": ["*flair*"]}


def channels(patterns: dict[str, list[str]]) -> list[Channel]:
    return [Channel(name, "MR", tuple(each), Percentiles(1, 99)) for name, each in patterns.items()]


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (["case_t1", "case_t1ce", "case_t2", "case_flair"], [0, 1, 2, 3]),
        (["case_T1CE"], [None, 0, None, None]),  # not T1, whose pattern it fits, too
        (["a_t1", "b_t1", "t2"], [None, None, 2, None]),
        (["t2_flair"], [None, None, None, 0]),
        (["liver"], [None, None, None, None]),
    ],
)
def test_a_volume_is_meant_by_the_most_specific_pattern_and_ambiguity_by_none(
    names: list[str], meant: list[int | None]
) -> None:
    assert suggested(channels(BRATS), names) == meant


def test_one_name_that_two_channels_claim_alike_is_given_to_none() -> None:
    assert suggested(channels({"A": ["*t1*"], "B": ["t1*"]}), ["t1"]) == [None, None]


def test_a_volume_whose_name_fits_is_chosen_when_it_is_loaded_and_the_users_choice_is_kept(user: User) -> None:
    fits = user.load(QUICK, "my phantom")
    user.host.process_events()
    assert user.channel_selector().currentNode() is fits
    user.channel_selector().setCurrentNode(None)
    other = user.load(QUICK, "liver")
    user.host.process_events()
    assert user.channel_selector().currentNode() is None
    user.channel_selector().setCurrentNode(other)
    user.load(QUICK, "another phantom")
    user.host.process_events()
    assert user.channel_selector().currentNode() is other


def test_of_two_volumes_whose_names_fit_none_is_chosen(user: User) -> None:
    user.load(QUICK, "phantom 1")
    user.load(QUICK, "phantom 2")
    user.host.process_events()
    assert user.channel_selector().currentNode() is None
    assert user.status == "Choose a volume."


# The task that a name means


TASKS = {
    task: channels({"T1": patterns}) for task, patterns in {"hip": ["*t1*", "*hip*"], "toy": ["*t1*", "*toy*"]}.items()
}


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (["My Toy"], "toy"),
        (["toy 1", "toy 2", "liver"], "toy"),
        (["t1 of a toy"], "toy"),  # by the more specific pattern
        (["t1"], None),
        (["toy", "hip"], None),
        (["liver"], None),
        ([], None),
    ],
)
def test_names_mean_a_task_if_they_mean_no_other(names: list[str], meant: str | None) -> None:
    assert task_meant(TASKS, names) == meant


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *((name, "hippocampus") for name in ("T1", "brain_t1", "T1 MPRAGE", "hippocampus_001")),
        *((name, "headneck-ct") for name in ("CT", "planning ct", "2: CT head and neck", "ct_1")),
        *(("phantom x1.0", "phantom"), ("phantom T1", "phantom-4ch"), ("phantom FLAIR", "phantom-4ch")),
        *((name, None) for name in ("FunctionalMR", "MR resection", "rectum_T2", "DIRECTION", "part1", "MRHead")),
    ],
)
def test_names_as_people_give_them_mean_the_task_of_a_bundled_model(name: str, meant: str | None) -> None:
    found, _refused = find_bundles([bundled_models()])
    assert task_meant({bundle.task: bundle.inputs for bundle in found}, [name]) == meant


@pytest.fixture
def two_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> User:
    """A panel with a task that comes before that of the phantom."""
    for name in ("phantom-unet", "liver-unet"):
        shutil.copytree(bundled_models() / "phantom-unet", tmp_path / name)

    def liver(card: dict[str, Any]) -> None:
        card.update(name="liver-unet", task="liver", inputs=[{**card["inputs"][0], "patterns": ["*t1*", "*liver*"]}])

    change_card(tmp_path / "liver-unet", liver)
    monkeypatch.setattr("ScaleEquivSegLib.panel.models.bundled_models", lambda: tmp_path)
    user: User = request.getfixturevalue("user")
    assert user.ui.taskSelector.currentText == "liver"
    return user


def loaded(user: User, name: str) -> Any:
    volume = user.load(QUICK, name)
    user.host.process_events()
    return volume


def test_the_first_volume_whose_name_means_a_task_chooses_task_and_volume(two_tasks: User) -> None:
    user = two_tasks
    loaded(user, "scan")
    assert user.ui.taskSelector.currentText == "liver"
    volume = loaded(user, "phantom x1.0")
    assert user.ui.taskSelector.currentText == "phantom"
    assert user.channel_selector().currentNode() is volume
    assert user.ui.segmentButton.enabled
    loaded(user, "liver")
    assert user.ui.taskSelector.currentText == "phantom"
    assert user.channel_selector().currentNode() is volume
    assert "first volume whose name" in user.ui.taskSelector.toolTip


def test_volumes_that_were_there_before_the_panel_choose_the_task_too(two_tasks: User) -> None:
    user = two_tasks
    user.host.clear_scene()
    user.widget.unbindParameters()
    volume = user.load(QUICK, "phantom")
    user.widget.bindParameters()
    assert user.ui.taskSelector.currentText == "phantom"
    assert user.channel_selector().currentNode() is volume


def test_a_name_that_means_two_tasks_alike_is_taken_for_the_one_that_is_shown(two_tasks: User) -> None:
    user = two_tasks
    volume = loaded(user, "case t1")
    assert user.ui.taskSelector.currentText == "liver"
    assert user.channel_selector().currentNode() is volume


def test_a_task_that_the_user_has_chosen_stays_also_in_a_saved_scene(two_tasks: User, tmp_path: Path) -> None:
    user = two_tasks
    user.ui.taskSelector.currentText = "phantom"
    user.ui.taskSelector.currentText = "liver"
    loaded(user, "phantom 1")
    assert user.ui.taskSelector.currentText == "liver"
    assert user.channel_selector().currentNode() is None
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    user.host.clear_scene()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    loaded(user, "phantom 2")
    assert user.ui.taskSelector.currentText == "liver"
    user.host.clear_scene()
    loaded(user, "phantom 3")
    assert user.ui.taskSelector.currentText == "phantom"


def test_a_task_whose_volume_the_user_has_chosen_stays(two_tasks: User) -> None:
    user = two_tasks
    volume = loaded(user, "scan")
    user.channel_selector().setCurrentNode(volume)
    slicer.mrmlScene.RemoveNode(volume)
    loaded(user, "phantom")
    assert user.ui.taskSelector.currentText == "liver"


def test_when_the_volume_that_chose_the_task_is_deleted_the_next_one_chooses(two_tasks: User) -> None:
    user = two_tasks
    slicer.mrmlScene.RemoveNode(loaded(user, "phantom"))
    user.host.process_events()
    volume = loaded(user, "liver")
    assert user.ui.taskSelector.currentText == "liver"
    assert user.channel_selector().currentNode() is volume


def write_picture(path: Path, shape: tuple[int, ...], is_vector: bool) -> str:
    image = sitk.GetImageFromArray(np.ones(shape, np.uint8), isVector=is_vector)
    sitk.WriteImage(image, str(path))
    return str(path)


def load_colours(folder: Path) -> Any:
    return slicer.util.loadVolume(write_picture(folder / "colours.nrrd", (4, 5, 6, 3), True))


def load_labels(folder: Path) -> Any:
    return slicer.util.loadVolume(write_picture(folder / "labels.nrrd", (4, 5, 6), False), {"labelmap": True})


def load_frames(folder: Path) -> Any:
    return slicer.util.loadVolume(write_picture(folder / "frames.nrrd", (4, 5, 6, 5), True))


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (load_colours, "colours has several values per voxel; make a volume of one in Vector to Scalar Volume."),
        (load_labels, "labels is a label map; load its scan, or convert it in Volumes if it is a scan."),
        (load_frames, "frames has several values per voxel; make a volume of one in Vector to Scalar Volume."),
    ],
)
def test_what_was_loaded_and_is_no_scan_is_named_as_long_as_there_is_none(
    user: User, tmp_path: Path, load: Callable[[Path], Any], said: str
) -> None:
    node = load(tmp_path)
    assert node.GetClassName() != "vtkMRMLScalarVolumeNode"
    user.host.process_events()
    assert user.status == user.ui.segmentButton.toolTip == f"Choose a volume. {said}"
    user.load(QUICK, "head ct")
    user.channel_selector().setCurrentNode(None)
    user.host.process_events()
    assert user.status == "Choose a volume."


def test_voxels_that_come_later_are_noticed(user: User) -> None:
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "phantom")
    user.host.process_events()
    assert user.status == "The volume has no voxels."
    slicer.util.updateVolumeFromArray(volume, np.arange(64, dtype=np.int16).reshape(4, 4, 4))
    user.host.process_events()
    assert user.ui.segmentButton.enabled


def add_two_channels(folder: Path, task: str) -> None:
    """Another model, whose task has two channels; its weights would not fit, but nobody looks yet."""
    shutil.copytree(bundled_models() / "phantom-unet", folder / "pair-unet")

    def pair(card: dict[str, Any]) -> None:
        second = {**card["inputs"][0], "name": "T1ce", "patterns": ["*t1ce*"]}
        card.update(name="pair-unet", task=task, inputs=[{**card["inputs"][0], "patterns": ["*t1*"]}, second])
        card["network"]["arguments"]["in_channels"] = 2

    change_card(folder / "pair-unet", pair)


@pytest.fixture
def two_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> User:
    """A panel with a second task, which has two channels."""
    shutil.copytree(bundled_models() / "phantom-unet", tmp_path / "phantom-unet")
    add_two_channels(tmp_path, "pair")
    monkeypatch.setattr("ScaleEquivSegLib.panel.models.bundled_models", lambda: tmp_path)
    user: User = request.getfixturevalue("user")
    assert user.entries(user.ui.taskSelector) == ["pair", "phantom"]
    return user


def test_each_channel_of_a_task_has_its_volume_and_two_channels_never_the_same(two_channels: User) -> None:
    user = two_channels
    enhanced, plain = user.load(QUICK, "case_t1ce"), user.load(QUICK, "case_t1")
    user.host.process_events()
    assert [user.channel_selector(n).currentNode() for n in (0, 1)] == [plain, enhanced]
    assert user.ui.segmentButton.enabled
    user.channel_selector(1).setCurrentNode(plain)
    assert user.status == "T1 and T1ce have the same volume; choose a different one for each."
    assert not user.ui.segmentButton.enabled
    user.channel_selector(1).setCurrentNode(None)
    assert user.status == "T1ce: Choose a volume."
    user.ui.taskSelector.currentText = "phantom"
    assert user.channel_selector().currentNode() is plain
    assert not slicer.util.findChildren(user.widget.parent, "channelSelector1")


def test_a_channel_that_the_task_does_not_have_any_more_is_not_heard(two_channels: User) -> None:
    user = two_channels
    enhanced, plain = user.load(QUICK, "case_t1ce"), user.load(QUICK, "case_t1")
    user.host.process_events()
    user.ui.taskSelector.currentText = "phantom"
    slicer.mrmlScene.RemoveNode(enhanced)  # before Qt has deleted its selector
    user.host.raise_exceptions()
    assert user.channel_selector().currentNode() is plain


def matrix_node(matrix: Any) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.array(matrix)))
    return node


def bending_node() -> Any:
    points = vtk.vtkPoints(), vtk.vtkPoints()
    for point in np.eye(3) * 100:
        points[0].InsertNextPoint(point)
        points[1].InsertNextPoint(point + [9, 0, 0] * point)
    for each in points:
        each.InsertNextPoint(0, 0, 0)
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    spline.SetSourceLandmarks(points[0])
    spline.SetTargetLandmarks(points[1])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "bent")
    node.SetAndObserveTransformToParent(spline)
    return node


def turned(shift: Any = (5, 6, 7)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = OBLIQUE, shift
    return matrix


def test_channels_under_different_transforms_are_segmented_as_they_lie_in_the_world(two_channels: User) -> None:
    user = two_channels
    plain, enhanced = user.load(QUICK, "case_t1"), user.load(QUICK, "case_t1ce")
    user.host.process_events()
    plain.SetAndObserveTransformNodeID(matrix_node(turned()).GetID())
    worker = user.quicken()
    worker.answers = False
    user.start()
    first, second = (read_volume(Path(path)).geometry.ijk_to_ras for path in worker.segmented[0]["inputs"])
    matrix = vtk.vtkMatrix4x4()
    plain.GetIJKToRASMatrix(matrix)
    own = slicer.util.arrayFromVTKMatrix(matrix)
    assert np.allclose(first, own)
    assert np.allclose(turned() @ second, own, atol=1e-9)
    user.widget.panel.stop("")
    enhanced.SetAndObserveTransformNodeID(bending_node().GetID())
    user.host.process_events()
    assert "bends space" in user.status
    assert not user.ui.segmentButton.enabled


def region(centre: Any = (1, 2, 3), size: Any = (10, 20, 30)) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    node.SetCenter(centre)
    node.SetSize(size)
    return node


def asked_box(user: User) -> Any:
    worker = user.quicken()
    worker.answers = False
    user.start()
    user.widget.panel.stop("")
    return worker.segmented[0]["roi"]


def test_without_a_region_the_whole_volume_is_segmented(user: User) -> None:
    user.choose(user.load(QUICK))
    assert asked_box(user) is None


@pytest.mark.parametrize("volume_turned", [False, True])
@pytest.mark.parametrize("region_turned", [False, True])
def test_the_region_is_handed_over_in_the_volumes_own_coordinates(
    user: User, volume_turned: bool, region_turned: bool
) -> None:
    volume, box = user.load(QUICK), region()
    of_volume, of_box = turned((1, 2, 3)), turned((-7, 8, 9)) @ np.diag([2, 2, 2, 1])
    if volume_turned:
        volume.SetAndObserveTransformNodeID(matrix_node(of_volume).GetID())
    if region_turned:
        box.SetAndObserveTransformNodeID(matrix_node(of_box).GetID())
    user.choose(volume)
    user.ui.regionSelector.setCurrentNode(box)
    asked = Box.from_values(asked_box(user))
    place = np.linalg.inv(of_volume if volume_turned else np.eye(4)) @ (of_box if region_turned else np.eye(4))
    assert np.allclose(asked.centre, (place @ [1, 2, 3, 1])[:3])
    assert np.allclose(np.array(asked.axes).T * asked.sides, place[:3, :3] * [10, 20, 30])


def make_bent(user: User, volume: Any, box: Any) -> None:
    volume.SetAndObserveTransformNodeID(bending_node().GetID())


def make_sheared(user: User, volume: Any, box: Any) -> None:
    box.SetAndObserveTransformNodeID(matrix_node([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).GetID())


def make_empty(user: User, volume: Any, box: Any) -> None:
    box.SetSize(0, 0, 0)


def move_away(user: User, volume: Any, box: Any) -> None:
    box.SetCenter(1000, 0, 0)


def put_between_voxels(user: User, volume: Any, box: Any) -> None:
    volume.SetOrigin(0.5, 0.5, 0.5)
    box.SetCenter(0, 0, 0)
    box.SetSize(0.1, 0.1, 0.1)


def turn_inside_out(user: User, volume: Any, box: Any) -> None:
    box.SetInsideOut(True)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (make_bent, "bends space"),
        (make_sheared, "shears"),
        (make_empty, "no size"),
        (move_away, "holds no voxel of scan; move it there"),
        (put_between_voxels, "holds no voxel of scan; move it there"),
        (turn_inside_out, "inside out"),
    ],
)
def test_a_region_that_is_no_box_in_the_volume_is_an_obstacle(
    user: User, spoil: Callable[[User, Any, Any], None], said: str
) -> None:
    volume, box = user.load(QUICK), region()
    user.choose(volume)
    user.ui.regionSelector.setCurrentNode(box)
    assert user.ui.segmentButton.enabled
    spoil(user, volume, box)
    user.host.process_events()
    assert said in user.status
    assert not user.ui.segmentButton.enabled
    user.ui.regionSelector.setCurrentNode(None)
    assert user.ui.segmentButton.enabled


def test_a_new_region_holds_the_whole_volume(user: User) -> None:
    volume = user.load(QUICK)
    user.choose(volume)
    box = user.ui.regionSelector.addNode()
    user.host.process_events()
    assert user.parameters.regionOfInterest is box
    found, wanted = [0.0] * 6, [0.0] * 6
    box.GetRASBounds(found)
    volume.GetRASBounds(wanted)
    assert np.allclose(found, wanted)
    assert user.ui.segmentButton.enabled


def test_a_region_that_was_made_before_there_was_a_volume_holds_it_when_it_comes(user: User) -> None:
    box = user.ui.regionSelector.addNode()
    user.host.process_events()
    assert not any(box.GetSize())
    volume = user.load(QUICK)
    user.choose(volume)
    user.host.process_events()
    found, wanted = [0.0] * 6, [0.0] * 6
    box.GetRASBounds(found)
    volume.GetRASBounds(wanted)
    assert np.allclose(found, wanted)
    box.SetSizeWorld([0.0, 0.0, 0.0])
    user.choose(user.load(QUICK, "another"))
    user.host.process_events()
    assert not any(box.GetSize())  # it is the user's now


def test_a_frame_of_a_sequence_can_be_chosen_and_is_what_is_segmented(user: User) -> None:
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "heart")
    for number in range(3):
        frame = slicer.util.addVolumeFromArray(np.arange(64, dtype=np.int16).reshape(4, 4, 4) + 100 * number)
        sequence.SetDataNodeAtValue(frame, str(number))
        slicer.mrmlScene.RemoveNode(frame)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "heart")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    user.host.process_events()
    frames = slicer.util.findChild(user.widget.parent, "frameSpinBox0")
    assert frames.isHidden()
    user.choose(browser.GetProxyNode(sequence))
    assert not frames.isHidden()
    assert (frames.minimum, frames.value, frames.maximum, frames.suffix) == (1, 1, 3, " / 3")
    frames.value = 3
    worker = user.quicken()
    worker.answers = False
    user.start()
    assert read_volume(Path(worker.segmented[0]["inputs"][0])).array.min() == 200
    user.widget.panel.stop("")
    browser.SetSelectedItemNumber(1)
    user.host.process_events()
    assert frames.value == 2
    user.choose(user.load(QUICK))
    assert frames.isHidden()


def test_after_the_scene_was_closed_volumes_are_chosen_by_name_again(user: User) -> None:
    user.load(QUICK, "phantom")
    user.host.process_events()
    user.host.clear_scene()
    volume = user.load(QUICK, "phantom")
    user.host.process_events()
    assert user.channel_selector().currentNode() is volume
