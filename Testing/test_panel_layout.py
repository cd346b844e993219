"""The panel as a whole: its keys, hints and width, scenes saved and reopened, and loading the module again."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import qt
import slicer

import slicerhost
from panel_user import MODULE, QUICK, QuickWorker, ThisProcess, User
from quick_answers import swept
from ScaleEquivSegLib.mrml.segmentations import reference_volume

FOLDED = ("detailsBox", "modelsBox", "advancedBox", "logBox")
UI = MODULE.parent / "Resources" / "UI" / "ScaleEquivSeg.ui"


class WholeWorker(ThisProcess):
    """Compares, and segments and probes at once."""

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["type"] == "sweep":
            return {"type": "result", "id": request["id"], **swept(request["scales"], False, request["bundle"])}
        return super()._answer(request) if request["type"] == "compare" else QuickWorker._answer(self, request)


def copy_of(segmentation: Any) -> Any:
    """Another of the same volume, with a name as long."""
    copied = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{segmentation.GetName()} copied")
    copied.CreateDefaultDisplayNodes()
    copied.GetSegmentation().DeepCopy(segmentation.GetSegmentation())
    copied.SetReferenceImageGeometryParameterFromVolumeNode(reference_volume(segmentation))
    return copied


def unfold(user: User) -> None:
    """Open every box, and show everything in them that shows only at times."""
    for name in FOLDED:
        getattr(user.ui, name).collapsed = False
    for name in ("taskNote", "networkNote", "refusedText", "progressBar"):
        getattr(user.ui, name).show()
    user.host.process_events()


def cut_texts(top: Any) -> list[str]:
    """What labels, buttons and check boxes say without the room to say it, or beyond the panel's right edge."""
    shown = [each for kind in (qt.QLabel, qt.QPushButton, qt.QCheckBox) for each in top.findChildren(kind)]
    shown = [each for each in shown if each.isVisibleTo(top) and each.text]
    assert len(shown) > 30
    return [each.text for each in shown if too_small(each) or place(each, top)[1] + each.width > top.width]


def too_small(widget: Any) -> bool:
    if isinstance(widget, qt.QLabel) and widget.wordWrap:
        return bool(widget.height < widget.heightForWidth(widget.width))
    return bool(widget.width < widget.sizeHint.width())


@pytest.fixture
def unfolded(user: User) -> User:
    """The panel with every box open, and a volume whose name is long."""
    user.load(QUICK, "a phantom with a name that is longer than any panel is wide, as series descriptions are")
    unfold(user)
    return user


def test_the_panel_fits_into_320_pixels(unfolded: User, tmp_path: Path) -> None:
    unfolded.quicken(WholeWorker)
    unfolded.ui.networkSelector.currentText = "Both"
    unfolded.start()
    unfolded.wait()
    unfolded.ui.referenceSelector.setCurrentNode(copy_of(unfolded.ui.comparedBSelector.currentNode()))
    unfolded.ui.compareButton.click()
    unfolded.wait()
    assert unfolded.ui.compareStatusLabel.text == "Done."
    user = User(unfolded.host)  # a selector takes its width from the names that it has when it is shown first
    unfold(user)
    user.host.grab(user.widget, tmp_path / "panel.png", width=320)
    assert qt.QImage(str(tmp_path / "panel.png")).width() == 320
    assert cut_texts(user.widget.parent) == []


def test_every_control_has_a_tooltip(unfolded: User) -> None:
    kinds = ("ctkCollapsibleGroupBox", "qMRMLNodeComboBox", "QCheckBox", "QComboBox", "QDoubleSpinBox")
    kinds += ("QPlainTextEdit", "QPushButton", "QSpinBox", "QTableWidget", "QTextBrowser")
    names = [each.get("name") for each in ElementTree.parse(UI).iter("widget") if each.get("class") in kinds]
    assert len(names) > 25
    assert [name for name in names if not getattr(unfolded.ui, name).toolTip] == []
    assert unfolded.channel_selector().toolTip == "The volume that shows T1 (MR)."


def test_every_label_leads_to_its_control(unfolded: User) -> None:
    labels = [each for each in unfolded.widget.parent.findChildren(qt.QLabel) if str(each.text).endswith(":")]
    assert len(labels) > 8
    assert [each.text for each in labels if each.buddy() is None] == []


def place(widget: Any, top: Any) -> tuple[int, int]:
    point = widget.mapTo(top, qt.QPoint(0, 0))
    return point.y(), point.x()


def test_the_tab_key_goes_through_the_panel_from_top_to_bottom(unfolded: User, tmp_path: Path) -> None:
    top = unfolded.widget.parent
    unfolded.host.grab(unfolded.widget, tmp_path / "panel.png", width=320)  # gives every control its place
    reached, widget = [], unfolded.ui.taskSelector
    for _step in range(500):
        takes_tab = int(widget.focusPolicy) & int(qt.Qt.TabFocus) and widget.focusProxy() is None
        if takes_tab and widget.isEnabled() and widget.isVisibleTo(top) and top.isAncestorOf(widget):
            reached.append(widget)
        widget = widget.nextInFocusChain()
        if widget is unfolded.ui.taskSelector:
            break
    places = [place(each, top) for each in reached]
    first = places.index(min(places))
    places = places[first:] + places[:first]
    assert len(places) > 15
    rows = [y for y, _x in places]
    assert [(b, a) for a, b in pairwise(rows) if b < a - 12] == []


def test_the_panel_has_no_style_of_its_own() -> None:
    sources = [UI, MODULE, *(MODULE.parent / "ScaleEquivSegLib").rglob("*.py")]
    assert [path.name for path in sources if "stylesheet" in path.read_text(encoding="utf-8").lower()] == []


def test_a_scene_saved_and_reopened_shows_every_choice_again(user: User, tmp_path: Path) -> None:
    user.quicken()
    volume = user.load(QUICK, "kept")
    user.choose(volume, "Both")
    user.start()
    user.wait()
    box = user.ui.regionSelector.addNode()
    box.SetName("box")
    user.ui.equivariantOutputSelector.setCurrentNode(user.results[0])
    user.ui.show3DButton.click()
    user.ui.planesSpinBox.value = 5
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    user.host.clear_scene()
    assert user.parameters.regionOfInterest is None
    assert not user.ui.show3DButton.checked
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    user.host.process_events()
    assert user.channel_selector().currentNode().GetName() == "kept"
    assert user.ui.regionSelector.currentNode().GetName() == "box"
    assert user.ui.equivariantOutputSelector.currentNode().GetName() == "kept equivariant"
    assert user.ui.baselineOutputSelector.currentNode() is None
    assert user.ui.planesSpinBox.value == 5
    assert user.ui.show3DButton.checked
    for node in user.results:
        assert node.GetSegmentation().ContainsRepresentation("Closed surface")
    assert user.ui.volumesTable.columnCount == 2
    assert user.ui.segmentButton.enabled


def test_the_module_loaded_again_shows_the_same_and_works(user: User) -> None:
    user.choose(user.load(QUICK, "kept"), "Equivariant")
    for _time in range(2):
        user = User(user.host)
        assert user.channel_selector().currentNode().GetName() == "kept"
        assert user.ui.networkSelector.currentText == "Equivariant"
        assert user.ui.deviceSelector.currentText == "CPU"
    user.quicken()
    user.start()
    user.wait()
    assert user.status == "Done."
    assert len(user.results) == 1


@pytest.fixture
def library_of_the_tests() -> Iterator[None]:
    """What the tests have imported of the module, put back when a test has imported it anew."""

    def imported() -> dict[str, Any]:
        return {name: sys.modules[name] for name in list(sys.modules) if name.startswith("ScaleEquivSeg")}

    before = imported()
    yield
    for name in imported():
        del sys.modules[name]
    sys.modules.update(before)


def test_reload_takes_module_and_library_anew_and_the_panel_works(library_of_the_tests: None, user: User) -> None:
    user.choose(user.load(QUICK, "kept"), "Equivariant")
    before, old = {name: sys.modules[name] for name in ("ScaleEquivSeg", "ScaleEquivSegLib.panel.panel")}, user.ui
    for _time in range(2):
        user.widget.onReload()
        assert slicer.modules.ScaleEquivSegWidget is not user.widget
        user.widget = slicer.modules.ScaleEquivSegWidget
        user.ui = user.widget.ui
        user.host.process_events()
        assert not any(sys.modules[name] is module for name, module in before.items())
        assert type(user.widget.panel) is sys.modules["ScaleEquivSegLib.panel.panel"].Panel
        assert not old.segmentButton.isVisible()
        assert user.ui.segmentButton.isVisible()
        assert user.channel_selector().currentNode().GetName() == "kept"
    user.quicken()
    user.start()
    user.wait()
    assert user.status == "Done."
    assert len(user.results) == 1
    assert old.statusLabel.text != "Done."
    user.host.select_module("segmentations")
    user.host.select_module("ScaleEquivSeg")
    user.host.clear_scene()
    assert user.status == "Choose a volume."


def test_without_a_main_window_all_works_but_what_needs_views(monkeypatch: pytest.MonkeyPatch) -> None:
    host = slicerhost.start()
    monkeypatch.setattr(type(slicer.app), "layoutManager", lambda self: None)
    user = User(host)
    user.quicken(WholeWorker)
    user.choose(user.load(QUICK), "Both")
    user.start()
    user.wait()
    for button in (user.ui.compareButton, user.ui.probeButton):
        button.click()
        user.wait()
        assert user.widget.panel.desk.outcome == "Done."
    user.ui.nextRegionButton.click()
    for button in (user.ui.sideBySideButton, user.ui.showPlotButton):
        assert not button.enabled
        assert button.toolTip == "Views need Slicer's main window."
    assert user.ui.exportTableButton.enabled
    host.close()
    host.raise_exceptions()
