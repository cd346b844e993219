"""What goes is chosen nowhere any more, though Slicer's selectors would take the next node for it; and what was said of
it is said no longer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import slicer

import slicerhost
from panel_user import QUICK, QuickWorker, User
from slicerhost import scripted_module


@pytest.fixture
def user() -> Iterator[User]:
    host = slicerhost.start()
    user = User(host)
    user.quicken()
    yield user
    host.close()
    host.raise_exceptions()


def three(kind: str) -> list[Any]:
    return [slicer.mrmlScene.AddNewNodeByClass(kind, name) for name in ("first", "second", "third")]


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        ("regionSelector", "regionOfInterest"),
        ("equivariantOutputSelector", "equivariantOutput"),
        ("baselineOutputSelector", "baselineOutput"),
        ("comparedASelector", "equivariantSegmentation"),
        ("comparedBSelector", "baselineSegmentation"),
        ("referenceSelector", "reference"),
    ],
)
def test_a_node_that_is_deleted_leaves_none_chosen(user: User, name: str, parameter: str) -> None:
    selector = getattr(user.ui, name)
    (kind,) = selector.nodeTypes
    for which in range(3):
        nodes = three(kind)
        selector.setCurrentNode(nodes[which])
        assert getattr(user.parameters, parameter) is nodes[which]
        slicer.mrmlScene.RemoveNode(nodes[which])
        user.host.process_events()
        assert selector.currentNode() is None
        assert getattr(user.parameters, parameter) is None


def test_a_volume_that_is_deleted_leaves_none_chosen_and_nothing_to_segment(user: User) -> None:
    volumes = [user.load(QUICK, name) for name in ("scan one", "scan two", "scan three")]
    user.choose(volumes[1])
    assert user.ui.segmentButton.enabled
    slicer.mrmlScene.RemoveNode(volumes[1])
    user.host.process_events()
    assert list(user.parameters.inputVolumes) == [None]
    assert user.channel_selector().currentNode() is None
    assert not user.ui.segmentButton.enabled
    assert user.status == "Choose a volume."


def test_a_node_that_is_chosen_nowhere_changes_no_choice(user: User) -> None:
    volume, other = user.load(QUICK, "scan one"), user.load(QUICK, "scan two")
    user.choose(volume)
    slicer.mrmlScene.RemoveNode(other)
    user.host.process_events()
    assert list(user.parameters.inputVolumes) == [volume]


def test_what_became_of_a_run_is_not_said_beside_another_volume_or_scene(user: User) -> None:
    volume, other = user.load(QUICK, "scan one"), user.load(QUICK, "scan two")
    user.choose(volume)
    user.start()
    user.wait()
    assert user.status == "Done."
    user.choose(other)
    assert user.status == ""
    user.start()
    user.wait()
    assert user.status == "Done."
    user.host.clear_scene()
    assert user.status == "Choose a volume."


def test_why_a_run_was_stopped_is_said_until_another_volume_is_chosen(user: User) -> None:
    volume, other = user.load(QUICK, "scan one"), user.load(QUICK, "scan two")
    user.quicken().answers = False
    user.choose(volume)
    user.start()
    slicer.mrmlScene.RemoveNode(volume)
    user.host.process_events()
    assert user.status == "scan one was deleted during the run; the result was discarded. Choose a volume."
    user.choose(other)
    assert user.status == ""


def test_a_second_panel_works_again_after_the_scene_was_closed(user: User) -> None:
    top = scripted_module.qSlicerScriptedLoadableModuleWidget()
    top.setMRMLScene(slicer.mrmlScene)
    second = sys.modules["ScaleEquivSeg"].ScaleEquivSegWidget(top)  # as Slicer's createNewWidgetRepresentation
    second.setup()
    second.panel.desk.worker.stop()
    second.panel.desk.worker = QuickWorker(second.panel.desk)
    top.show()
    try:
        user.host.clear_scene()
        user.choose(user.load(QUICK, "scan"))
        user.host.process_events()
        assert user.ui.segmentButton.enabled
        assert second.ui.segmentButton.enabled
    finally:
        second.cleanup()
        top.deleteLater()
