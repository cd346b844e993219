"""The panel under random sequences of what users do, always the same ones; what failed is named by its number.
The worker is always a process; in every tenth sequence it has the real networks, else a threshold in their place."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk

import slicerhost
from panel_user import alive
from random_actions import act, choose_a_volume, load_a_volume, wait_for_the_end
from random_user import PRODUCT, WORKERS, RandomUser, contents
from ScaleEquivSegLib.bundles import CARD
from ScaleEquivSegLib.mrml.layouts import SIDE_BY_SIDE_LAYOUT
from ScaleEquivSegLib.mrml.placing import region_seen_from
from ScaleEquivSegLib.mrml.segmentations import reference_volume
from ScaleEquivSegLib.mrml.volumes import grid_of, has_voxels, volume_from_node
from ScaleEquivSegLib.panel import models
from test_panel_input import add_two_channels

SEQUENCES = range(100)
LENGTH = 12
NETWORKS_ARE_REAL_IN_EVERY = 10
SECONDS_TO_END = 2 + 8  # what a busy test machine adds

LAUNCHER = """#!/bin/sh
exec 3<&0
"{python}" -m {module} <&3 &
echo $! >> "{workers}"
wait $!
"""
"""As in Slicer the worker is a child of what the panel starts, and would outlive it when only that is killed."""


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, phantom_models: Path) -> tuple[Path, Path]:
    """The phantom's models with one of a second task, which has two channels; and a folder for the user to add."""
    bundled, added = (tmp_path_factory.mktemp(name) for name in ("two tasks", "added"))
    shutil.copytree(phantom_models, bundled, dirs_exist_ok=True)
    add_two_channels(bundled, "two channels")
    add_two_channels(added, "task of the user")
    (added / "broken").mkdir()
    (added / "broken" / CARD).touch()
    return bundled, added


@pytest.fixture
def user(
    request: pytest.FixtureRequest, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RandomUser]:
    bundled, added = folders
    start_workers_by(tmp_path, request.param % NETWORKS_ARE_REAL_IN_EVERY == 0, monkeypatch)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(models, "bundled_models", lambda: bundled)
    host = slicerhost.start()
    yield RandomUser(host, request.param, tmp_path, added)
    slicer.app.settings().remove(models.FOLDERS_SETTING)
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    host.answer = True
    host.close()
    host.raise_exceptions()


def start_workers_by(folder: Path, real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a launcher in front of the panel's own, which writes down every worker that it starts."""
    launcher = folder / "PythonSlicer"
    module = "ScaleEquivSegLib.worker" if real else "quick_answers"
    launcher.write_text(LAUNCHER.format(python=sys.executable, module=module, workers=folder / WORKERS))
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.mark.parametrize("user", SEQUENCES, indirect=True)
def test_whatever_the_user_does_the_panel_stays_sound(user: RandomUser) -> None:
    load_a_volume(user)
    choose_a_volume(user)
    for _number in range(LENGTH):
        act(user)
        check_nodes(user)
        if user.perhaps(0.8):  # else the next comes before the panel has taken notice
            check_at_rest(user)
    if user.perhaps():
        wait_for_the_end(user)
        check_at_rest(user)
    user.host.close()
    assert user.host.wait_until(lambda: not any(map(alive, user.workers)), SECONDS_TO_END)
    assert not list(Path(tempfile.gettempdir()).glob("ScaleEquivSeg-*"))


def check_at_rest(user: RandomUser) -> None:
    """All that is to hold when everything that was done has been taken notice of."""
    user.settle()
    check_nodes(user)
    check_choices(user)
    check_buttons(user)
    check_views(user)
    for sign in ("Unexpected error", "Traceback"):
        assert sign not in user.ui.logText.toPlainText()


def check_nodes(user: RandomUser) -> None:
    """Nodes are lost or changed only if their user did it or agreed to it, and come only of runs that were done."""
    was_done = user.run_was_done()
    for node_id, before in list(user.kept.items()):
        node = slicer.mrmlScene.GetNodeByID(node_id)
        assert node is not None, f"{node_id} was lost"
        if contents(node) != before and node_id in user.unfitted:
            user.unfitted.remove(node_id)
            user.keep(node)
        elif contents(node) != before:
            assert node.GetAttribute(PRODUCT) or node_id in user.given_away, f"{node.GetName()} was changed"
            assert was_done
            user.keep(node)
    if not user.running:
        user.given_away.clear()
    for node in user.data():
        if node.GetID() not in user.kept:
            if node.IsA("vtkMRMLSegmentationNode"):
                assert was_done, f"{node.GetName()} came from nowhere"
                check_place(node)
            user.keep(node)
        assert not node.IsA("vtkMRMLSegmentationNode") or node.GetDisplayNode() is not None


def check_place(node: Any) -> None:
    """A new segmentation lies on the grid of its volume, and under the same transform."""
    volume = reference_volume(node)
    if volume is None:
        return
    assert node.GetTransformNodeID() == volume.GetTransformNodeID()
    matrix = vtk.vtkMatrix4x4()
    for segment_id in node.GetSegmentation().GetSegmentIDs():
        labels = node.GetSegmentation().GetSegment(segment_id).GetRepresentation("Binary labelmap")
        if labels is not None and labels.GetNumberOfPoints():
            labels.GetImageToWorldMatrix(matrix)
            wanted = volume_from_node(volume).geometry.ijk_to_ras
            assert np.allclose(slicer.util.arrayFromVTKMatrix(matrix), wanted, atol=1e-3)


def check_choices(user: RandomUser) -> None:
    """What the selectors show is what the parameter node says, and is in the scene."""
    parameters = user.widget.panel.desk.parameters
    if parameters is None:
        assert not user.widget.parent.isEntered
        return
    shown = {widget.property("SlicerParameterName"): widget for widget in vars(user.ui).values()}
    for name, parameter in parameters.allParameters.items():
        value = parameters.getValue(name)
        for node in value if name == "inputVolumes" else [value]:
            if isinstance(node, slicer.vtkMRMLNode):
                assert slicer.mrmlScene.GetNodeByID(node.GetID()) is node
        if isinstance(parameter.type, type) and issubclass(parameter.type, slicer.vtkMRMLNode) and name in shown:
            assert shown[name].currentNode() is value, name
    inputs = [*parameters.inputVolumes, None, None]
    for selector, volume in zip(user.channels(), inputs, strict=False):
        assert selector.currentNode() is volume


def check_buttons(user: RandomUser) -> None:
    """What can be pressed can be done; what cannot says why; the bar shows while something runs."""
    ui = user.ui
    assert ui.progressBar.isHidden() != user.running
    assert not (user.running and user.status.startswith(("Done.", "Cancelled.")))
    assert ui.segmentButton.enabled == (not user.running and can_segment(user))
    if not user.running and not ui.segmentButton.enabled:
        assert ui.segmentButton.toolTip
        assert ui.segmentButton.toolTip in user.status or not user.widget.parent.isEntered
    assert sum(button.text == "Cancel" for button in (ui.compareButton, ui.probeButton)) <= user.running
    for button, label in ((ui.compareButton, ui.compareStatusLabel), (ui.probeButton, ui.probeStatusLabel)):
        assert button.enabled or user.running or label.text


def can_segment(user: RandomUser) -> bool:
    """Whether what is chosen can be handed over."""
    if user.widget.panel.desk.parameters is None:
        return False
    ui = user.ui
    volumes = [selector.currentNode() for selector in user.channels()]
    if None in volumes or len(set(volumes)) < len(volumes) or not all(map(has_voxels, volumes)):
        return False
    region = ui.regionSelector.currentNode()
    if region is not None and (min(region.GetSize()) <= 0 or region.GetInsideOut()):
        return False
    others = [*volumes[1:], *([region] if region is not None else [])]
    for other in others:
        both = (other, volumes[0])
        if other.GetTransformNodeID() != volumes[0].GetTransformNodeID() and any(map(is_bent, both)):
            return False
    if region is not None and not all(region_seen_from(volumes[0], region).bounds(grid_of(volumes[0]))):
        return False
    outputs = [ui.equivariantOutputSelector.currentNode(), ui.baselineOutputSelector.currentNode()]
    return ui.networkSelector.currentText != "Both" or outputs[0] is None or outputs[0] is not outputs[1]


def is_bent(node: Any) -> bool:
    transform = node.GetParentTransformNode()
    return transform is not None and not transform.IsTransformToWorldLinear()


def check_views(user: RandomUser) -> None:
    """Only side by side is a segmentation shown in some views alone."""
    if slicer.app.layoutManager().layout != SIDE_BY_SIDE_LAYOUT and user.widget.panel.desk.parameters is not None:
        for node in user.results:
            assert not node.GetDisplayNode().GetNumberOfViewNodeIDs()
