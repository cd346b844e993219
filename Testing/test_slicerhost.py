"""The stand-in host keeps PythonQt's and Slicer's conventions,
and refuses what Slicer would refuse or ignore."""

from __future__ import annotations

import enum
import pathlib
import sys
from typing import Annotated, Any

import numpy as np
import pytest

import slicerhost

host = slicerhost.start()

import ctk  # noqa: E402
import qt  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402
from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper  # noqa: E402

from slicerhost.arrangement import arranged  # noqa: E402

MODULE = """
from typing import Annotated
import ctk, qt, slicer, vtk
from slicer.i18n import tr as _, translate
from slicer.ScriptedLoadableModule import *
from slicer.parameterNodeWrapper import parameterNodeWrapper, WithinRange
from slicer.util import VTKObservationMixin
from slicer import vtkMRMLScalarVolumeNode


class Tiny(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Tiny")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Examples")]
        slicer.app.connect("startupCompleted()", self.registerSampleData)

    def registerSampleData(self):
        import SampleData
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="Tiny", sampleName="TinySample", uris="", fileNames="tiny.nrrd",
            customDownloader=lambda source: source.sampleName)


@parameterNodeWrapper
class TinyParameterNode:
    inputVolume: vtkMRMLScalarVolumeNode
    threshold: Annotated[float, WithinRange(0, 100)] = 40
    invert: bool = False


class TinyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.calls = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/Tiny.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = TinyLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.parameters = TinyParameterNode(self.logic.getParameterNode())
        named = {w.property("SlicerParameterName"): w for w in vars(self.ui).values()}
        self.tag = self.parameters.connectParametersToGui({n: w for n, w in named.items() if n})

    def enter(self):
        self.calls.append("enter")

    def exit(self):
        self.calls.append("exit")

    def cleanup(self):
        self.calls.append("cleanup")
        self.removeObservers()

    def onSceneStartClose(self, caller, event):
        self.calls.append("start close")

    def onSceneEndClose(self, caller, event):
        self.calls.append("end close")

    def onApply(self):
        if self.parameters.threshold > 90:
            raise ValueError("too high")
        self.ui.applyButton.text = "Done"


class TinyLogic(ScriptedLoadableModuleLogic):
    pass


class TinyTest(ScriptedLoadableModuleTest):
    def runTest(self):
        self.delayDisplay("ran")
"""

UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Tiny</class>
<widget class="qMRMLWidget" name="Tiny"><layout class="QVBoxLayout" name="column">
 <item><widget class="ctkCollapsibleButton" name="inputs">
  <property name="text"><string>Inputs</string></property>
  <layout class="QFormLayout" name="form">
   <item row="0" column="0"><widget class="QLabel" name="label">
     <property name="text"><string>Volume:</string></property></widget></item>
   <item row="0" column="1"><widget class="qMRMLNodeComboBox" name="inputSelector">
     <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
     <property name="noneEnabled"><bool>true</bool></property>
     <property name="SlicerParameterName" stdset="0"><string>inputVolume</string></property></widget></item>
   <item row="1" column="1"><widget class="ctkSliderWidget" name="threshold">
     <property name="SlicerParameterName" stdset="0"><string>threshold</string></property></widget></item>
   <item row="2" column="1"><widget class="QCheckBox" name="invert">
     <property name="text"><string>Invert</string></property>
     <property name="SlicerParameterName" stdset="0"><string>invert</string></property></widget></item>
  </layout></widget></item>
 <item><widget class="QPushButton" name="applyButton">
  <property name="text"><string>Apply</string></property></widget></item>
 <item><spacer name="spacer"><property name="orientation"><enum>Qt::Vertical</enum></property></spacer></item>
</layout></widget><resources/>
<connections><connection><sender>Tiny</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>inputSelector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>
"""


class Mode(enum.Enum):
    FAST = "fast"
    EXACT = "exact"


@parameterNodeWrapper
class EveryType:
    flag: bool
    count: Annotated[int, WithinRange(1, 9), Default(3)]
    weight: float = 0.5
    label: Annotated[str, Choice(["a", "b"])] = "b"
    folder: pathlib.Path
    mode: Mode
    volume: slicer.vtkMRMLScalarVolumeNode
    names: list[str]


@pytest.fixture(autouse=True)
def clean_host() -> Any:
    yield
    host.close()
    host.dialogs.clear()
    host.answer = True
    host.sample_data.clear()
    host.raise_exceptions()


@pytest.fixture
def tiny(tmp_path: pathlib.Path) -> Any:
    (tmp_path / "Resources" / "UI").mkdir(parents=True)
    (tmp_path / "Resources" / "UI" / "Tiny.ui").write_text(UI)
    (tmp_path / "Tiny.py").write_text(MODULE)
    return host.load_module(tmp_path / "Tiny.py")[1]


def add_volume(name: str = "scan") -> Any:
    voxels = np.random.default_rng(0).normal(100, 10, (30, 40, 50)).astype(np.float32)
    voxels[8:22, 10:30, 15:35] += 100
    return slicer.util.addVolumeFromArray(voxels, np.diag([1.0, 1.0, 2.0, 1.0]), name)


def add_segmentation(volume: Any) -> Any:
    labels = (slicer.util.arrayFromVolume(volume) > 150).astype(np.uint8)
    matrix = np.diag([1.0, 1.0, 2.0, 1.0])
    labelmap = slicer.util.addVolumeFromArray(labels, matrix, "labels", "vtkMRMLLabelMapVolumeNode")
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "result")
    segmentation.CreateDefaultDisplayNodes()
    assert slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, segmentation)
    slicer.mrmlScene.RemoveNode(labelmap)
    return segmentation


def parameter_node(name: str = "every") -> Any:
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", name)


def test_a_property_is_an_attribute_and_its_getter_is_not_callable() -> None:
    button = qt.QPushButton("press")
    button.enabled, button.checkable, button.toolTip = False, True, "tip"
    assert (button.text, button.enabled, button.checkable, button.toolTip) == ("press", False, True, "tip")
    button.setText("again")
    assert button.text == "again"
    with pytest.raises(TypeError, match="'str' object is not callable"):
        button.text()


def test_an_unknown_attribute_cannot_be_read_or_set() -> None:
    for widget in (qt.QPushButton(), slicer.qMRMLNodeComboBox(), ctk.ctkSliderWidget()):
        with pytest.raises(AttributeError, match="junk"):
            widget.junk = 1
        with pytest.raises(AttributeError, match="junk"):
            _ = widget.junk


def test_a_python_subclass_may_hold_its_own_attributes() -> None:
    class Row(qt.QWidget):
        def __init__(self) -> None:
            qt.QWidget.__init__(self)
            self.count = 3

    row = Row()
    row.later = 4
    assert (row.count, row.later) == (3, 4)


def test_a_method_or_signal_cannot_be_assigned_over() -> None:
    button = qt.QPushButton()
    for name in ("click", "setText", "clicked"):
        with pytest.raises(AttributeError, match=name):
            setattr(button, name, print)


def test_a_signal_connects_by_attribute_or_by_name_and_drops_surplus_arguments() -> None:
    button, heard = qt.QPushButton(), []
    button.clicked.connect(lambda: heard.append("none"))
    button.clicked.connect(lambda checked: heard.append(checked))
    button.connect("clicked(bool)", lambda checked: heard.append(checked))
    button.connect("clicked()", lambda: heard.append("by name"))
    button.click()
    assert heard == ["none", False, False, "by name"]


def test_a_disconnected_function_is_not_called() -> None:
    button, heard = qt.QPushButton(), []

    def press() -> None:
        heard.append(1)

    button.clicked.connect(press)
    assert button.clicked.disconnect(press)
    button.connect("clicked()", press)
    assert button.disconnect("clicked()", press)
    button.click()
    assert heard == []


def test_an_unknown_signal_cannot_be_connected() -> None:
    with pytest.raises(ValueError, match="nosuch"):
        qt.QPushButton().connect("nosuch()", print)
    with pytest.raises(ValueError, match="clicked"):
        qt.QPushButton().connect("clicked(QString)", print)
    with pytest.raises(AttributeError, match="nosuch"):
        qt.QPushButton().nosuch.connect(print)


def test_an_exception_inside_a_slot_timer_or_observer_is_kept() -> None:
    def fail(*_: Any) -> None:
        raise ValueError("inside")

    button = qt.QPushButton()
    button.clicked.connect(fail)
    button.click()
    qt.QTimer.singleShot(0, fail)
    host.wait_until(lambda: len(host.exceptions) == 2)
    tag = slicer.mrmlScene.AddObserver(slicer.mrmlScene.NodeAddedEvent, fail)
    parameter_node()
    slicer.mrmlScene.RemoveObserver(tag)
    assert [str(error) for error in host.exceptions] == ["inside"] * 3
    with pytest.raises(ExceptionGroup):
        host.raise_exceptions()
    assert host.exceptions == []


def test_enums_are_ints() -> None:
    process = qt.QProcess()
    assert process.state() == qt.QProcess.NotRunning == 0
    assert int(qt.QMessageBox.Ok) == 1024
    assert qt.QSlider().orientation == qt.Qt.Vertical


def test_a_process_reports_its_output_and_end() -> None:
    process, ended = qt.QProcess(), []
    environment = qt.QProcessEnvironment.systemEnvironment()
    environment.insert("GREETING", "grüezi")
    environment.insert("PYTHONIOENCODING", "utf-8")
    process.setProcessEnvironment(environment)
    process.setProcessChannelMode(qt.QProcess.MergedChannels)
    process.finished.connect(lambda code, status: ended.append((code, int(status))))
    process.start("PythonSlicer", ["-c", "import os; print(os.environ['GREETING']); raise SystemExit(3)"])
    assert host.wait_until(lambda: ended, 20)
    assert ended == [(3, 0)]
    assert process.readAllStandardOutput().data().decode().strip() == "grüezi"


def test_a_timer_fires_once() -> None:
    timer, ticks = qt.QTimer(), []
    timer.interval, timer.singleShot = 1, True
    timer.timeout.connect(lambda: ticks.append(1))
    timer.start()
    assert timer.active
    assert host.wait_until(lambda: ticks)
    assert not timer.active


def test_dialogs_are_recorded_and_answered() -> None:
    slicer.util.errorDisplay("broken", detailedText="trace")
    assert slicer.util.confirmYesNoDisplay("sure?")
    host.answer = False
    assert not slicer.util.confirmOkCancelDisplay("really?", windowTitle="Ask")
    assert qt.QMessageBox.question(None, "title", "go on?") == qt.QMessageBox.No
    host.answer = "/data"
    assert qt.QFileDialog.getExistingDirectory(None, "folder") == "/data"
    kinds = [(dialog.kind, dialog.text) for dialog in host.dialogs]
    assert kinds[:4] == [
        ("error", "broken"),
        ("question", "sure?"),
        ("question", "really?"),
        ("question", "go on?"),
    ]
    assert host.dialogs[0].details == "trace"
    assert host.dialogs[2].title == "Ask"


def test_try_with_error_display_shows_the_error_and_passes_it_on() -> None:
    with (
        pytest.raises(ValueError, match="because"),
        slicer.util.tryWithErrorDisplay("It failed.", waitCursor=True),
    ):
        raise ValueError("because")
    assert host.dialogs[0].text == "It failed.\n\nbecause"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('class="QCheckBox"', 'class="QTickBox"', "QTickBox"),
        ('<property name="noneEnabled">', '<property name="nunEnabled">', "nunEnabled"),
        ("mrmlSceneChanged(vtkMRMLScene*)", "sceneChanged(vtkMRMLScene*)", "sceneChanged"),
        ("setMRMLScene(vtkMRMLScene*)", "setScene(vtkMRMLScene*)", "setScene"),
        ("<receiver>inputSelector</receiver>", "<receiver>nobody</receiver>", "nobody"),
    ],
)
def test_a_ui_file_with_an_unknown_name_is_refused(tmp_path: pathlib.Path, old: str, new: str, message: str) -> None:
    assert old in UI
    (tmp_path / "bad.ui").write_text(UI.replace(old, new))
    with pytest.raises(RuntimeError, match=message):
        slicer.util.loadUI(str(tmp_path / "bad.ui"))


def test_a_module_that_is_reloaded_is_executed_anew_in_the_same_panel(tiny: Any) -> None:
    path, top, before = pathlib.Path(slicer.modules.tiny.path), tiny.parent, tiny.ui
    path.write_text(path.read_text() + "\n\nTinyWidget.colour = 'red'\n")
    tiny.onReload()
    host.process_events()
    anew = slicer.modules.TinyWidget
    assert anew is top.self() is not tiny
    assert anew.colour == "red"
    assert anew.parent is top
    assert tiny.calls == ["enter", "cleanup"]
    assert anew.calls == []
    assert top.isAncestorOf(before.applyButton)  # nobody deletes it
    assert not before.applyButton.isVisible()
    assert anew.ui.applyButton.isVisible()
    host.select_module("segmentations")
    assert anew.calls == ["exit"]
    host.close()
    assert tiny.calls == ["enter", "cleanup"]
    assert anew.calls == ["exit", "cleanup"]


def test_a_module_is_loaded_entered_left_and_cleaned_up(tiny: Any) -> None:
    assert tiny.calls == ["enter"]
    assert slicer.modules.tiny.path.endswith("Tiny.py")
    assert slicer.modules.tiny.title == "Tiny"
    assert slicer.modules.TinyWidget is tiny
    assert [sample.sampleName for sample in host.sample_data] == ["TinySample"]
    with pytest.raises(AttributeError):
        slicer.modules.tiny.acknowledgmentText = "misspelt"
    host.clear_scene()
    host.close()
    assert tiny.calls == ["enter", "start close", "end close", "exit", "cleanup"]


def test_a_click_reaches_the_module_and_its_failure_is_kept(tiny: Any) -> None:
    tiny.ui.applyButton.click()
    assert tiny.ui.applyButton.text == "Done"
    tiny.ui.threshold.value = 95
    tiny.ui.applyButton.click()
    with pytest.raises(ExceptionGroup) as caught:
        host.raise_exceptions()
    assert "too high" in str(caught.value.exceptions[0])


def test_widgets_and_parameters_follow_each_other(tiny: Any) -> None:
    tiny.ui.threshold.value = 12
    tiny.ui.invert.click()
    assert (tiny.parameters.threshold, tiny.parameters.invert) == (12.0, True)
    tiny.parameters.threshold = 70
    assert (tiny.ui.threshold.value, tiny.ui.threshold.maximum) == (70, 100)
    volume = add_volume()
    tiny.ui.inputSelector.setCurrentNode(volume)
    assert tiny.parameters.inputVolume is volume
    tiny.parameters.disconnectGui(tiny.tag)
    tiny.ui.threshold.value = 5
    assert tiny.parameters.threshold == 70


def test_the_node_selector_follows_the_scene() -> None:
    selector, heard = slicer.qMRMLNodeComboBox(), []
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.noneEnabled = True
    selector.setMRMLScene(slicer.mrmlScene)
    selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: heard.append(node and node.GetName()))
    first, second = add_volume("first"), add_volume("second")
    parameter_node()
    assert selector.nodeCount() == 2
    assert selector.currentNode() is None
    selector.setCurrentNode(second)
    second.SetName("renamed")
    assert selector.findChild(qt.QComboBox).currentText == "renamed"
    slicer.mrmlScene.RemoveNode(second)
    assert selector.currentNode() is first  # as Qt has it: the next in the list, or the last
    assert selector.nodeCount() == 1
    host.clear_scene()
    assert selector.nodeCount() == 0
    assert heard == ["second", "first", None]


def test_a_selector_without_none_takes_the_first_node_and_creates_nodes() -> None:
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLSegmentationNode"]
    selector.baseName = "Output"
    selector.setMRMLScene(slicer.mrmlScene)
    created = selector.addNode()
    assert selector.currentNode() is created
    assert created.GetName().startswith("Output")
    selector.addEnabled = False
    with pytest.raises(RuntimeError, match="create"):
        selector.addNode()


def test_parameters_start_with_their_defaults() -> None:
    every = EveryType(parameter_node())
    values = (every.flag, every.count, every.weight, every.label, every.folder, every.mode, every.volume)
    assert values == (False, 3, 0.5, "b", pathlib.Path(), Mode.FAST, None)
    assert every.names == []


def test_parameters_survive_a_saved_scene(tmp_path: pathlib.Path) -> None:
    volume = add_volume()
    every = EveryType(parameter_node())
    every.flag, every.count, every.weight, every.label = True, 7, 0.1, "a"
    every.folder, every.mode, every.volume = tmp_path, Mode.EXACT, volume
    every.names = ["left"]
    every.names.append("right, ütli")
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    host.clear_scene()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    again = EveryType(slicer.util.getNode("every"))
    assert (again.flag, again.count, again.weight, again.label) == (True, 7, 0.1, "a")
    assert (again.folder, again.mode, again.volume.GetName()) == (tmp_path, Mode.EXACT, "scan")
    assert again.names == ["left", "right, ütli"]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("count", 10, ValueError),
        ("count", "3", TypeError),
        ("label", "c", ValueError),
        ("mode", "fast", TypeError),
        ("flag", None, ValueError),
        ("volume", "vtkMRMLScalarVolumeNode1", TypeError),
        ("names", "left", TypeError),
        ("cuont", 3, AttributeError),
    ],
)
def test_a_wrong_parameter_value_or_name_is_refused(name: str, value: Any, error: type[Exception]) -> None:
    every = EveryType(parameter_node())
    with pytest.raises(error):
        setattr(every, name, value)


def test_a_widget_bound_to_no_parameter_or_to_a_wrong_type_is_refused() -> None:
    every = EveryType(parameter_node())
    top = qt.QWidget()
    box = qt.QCheckBox(top)
    box.setProperty("SlicerParameterName", "nosuch")
    with pytest.raises(ValueError, match="nosuch"):
        every.connectGui(top)
    box.setProperty("SlicerParameterName", "names")
    with pytest.raises(RuntimeError, match="names"):
        every.connectGui(top)


def test_an_unsupported_parameter_type_is_refused() -> None:
    class Wrong:
        value: complex

    with pytest.raises(TypeError, match="complex"):
        parameterNodeWrapper(Wrong)


def test_volumes_and_segmentations_are_saved_and_loaded(tmp_path: pathlib.Path) -> None:
    volume = add_volume()
    voxels = slicer.util.arrayFromVolume(volume).copy()
    segmentation = add_segmentation(volume)
    assert slicer.util.saveNode(volume, str(tmp_path / "scan.nrrd"))
    assert slicer.util.saveNode(segmentation, str(tmp_path / "result.seg.nrrd"))
    host.clear_scene()
    again = slicer.util.loadVolume(str(tmp_path / "scan.nrrd"))
    assert np.array_equal(slicer.util.arrayFromVolume(again), voxels)
    loaded = slicer.util.loadSegmentation(str(tmp_path / "result.seg.nrrd"))
    assert loaded.GetName() == "result"
    assert loaded.GetSegmentation().GetNumberOfSegments() == 1
    with pytest.raises(RuntimeError, match="no such file"):
        slicer.util.loadVolume(str(tmp_path / "missing.nrrd"))


def test_an_own_layout_has_its_views() -> None:
    views = "".join(
        f'<item><view class="vtkMRMLSliceNode" singletontag="{name}">'
        '<property name="orientation" action="default">Axial</property>'
        f'<property name="viewlabel" action="default">{name[0]}</property>'
        f'<property name="viewcolor" action="default">{colour}</property></view></item>'
        for name, colour in (("Alpha", "#F34A33"), ("Beta", "#4A50C8"))
    )
    manager = slicer.app.layoutManager()
    node = manager.layoutLogic().GetLayoutNode()
    node.AddLayoutDescription(901, f'<layout type="horizontal">{views}</layout>')
    manager.setLayout(901)
    assert manager.layout == 901
    assert {"Alpha", "Beta"} <= set(manager.sliceViewNames())
    assert manager.sliceWidget("Beta").mrmlSliceNode().GetLayoutName() == "Beta"
    with pytest.raises(ValueError, match="12345"):
        manager.setLayout(12345)


def test_a_segmentation_shows_only_in_the_views_it_is_given_to(tmp_path: pathlib.Path) -> None:
    manager = slicer.app.layoutManager()
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
    volume = add_volume()
    segmentation = add_segmentation(volume)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    for name in ("Red", "Yellow"):
        manager.sliceWidget(name).mrmlSliceNode().JumpSlice(25, 20, 30)
    red = manager.sliceWidget("Red").mrmlSliceNode().GetID()
    assert colourful_pixels(tmp_path / "all.png") == (True, True)
    segmentation.GetDisplayNode().SetViewNodeIDs([red])
    assert colourful_pixels(tmp_path / "red.png") == (True, False)


def colourful_pixels(path: pathlib.Path) -> tuple[bool, bool]:
    """Whether the left and the right view show anything but grey."""
    from PIL import Image

    host.render_views(path, (600, 320))
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)[30:]
    grey = pixels.max(axis=2) - pixels.min(axis=2) < 30
    return bool((~grey[:, :299]).sum() > 500), bool((~grey[:, 303:]).sum() > 500)


def test_views_are_placed_as_the_layout_says() -> None:
    views = {name: f'<item><view class="vtkMRMLViewNode" singletontag="{name}"/></item>' for name in "abcd"}
    row = f'<item><layout type="horizontal">{views["b"]}{views["c"]}</layout></item>'
    tabs = f'<item><layout type="tab">{views["d"]}{views["a"]}</layout></item>'
    description = f'<layout type="vertical">{views["a"]}{row}{tabs}</layout>'
    found = [(name, rect.getRect()) for _class, name, rect in arranged(description, qt.QRect(0, 0, 202, 304))]
    assert found == [
        ("a", (0, 0, 202, 100)),
        ("b", (0, 102, 100, 100)),
        ("c", (102, 102, 100, 100)),
        ("d", (0, 204, 202, 100)),
    ]


def a_table() -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "table")
    for name, values in {"x": (0.0, 1.0, 2.0), "y": (0.0, 1.0, 0.0)}.items():
        column = vtk.vtkDoubleArray()
        column.SetName(name)
        for value in values:
            column.InsertNextValue(value)
        node.AddColumn(column)
    return node


def test_a_plot_is_drawn_from_its_series_in_its_colour(tmp_path: pathlib.Path) -> None:
    from PIL import Image

    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", "chart")
    series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "series")
    series.SetAndObserveTableNodeID(a_table().GetID())
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    series.SetXColumnName("x")
    series.SetYColumnName("y")
    series.SetColor(1.0, 0.0, 0.0)
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpPlotView)
    slicer.modules.plots.logic().ShowChartInLayout(chart)

    def red_pixels() -> int:
        host.render_views(tmp_path / "plot.png", (600, 400))
        pixels = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB")).astype(int)
        return int(((pixels[..., 0] > 200) & (pixels[..., 1:].max(axis=2) < 120)).sum())

    before = red_pixels()
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    assert red_pixels() > before + 100


def test_a_table_view_shows_a_table_and_follows_it() -> None:
    view, table = slicer.qMRMLTableView(), a_table()
    view.setMRMLTableNode(table)
    model = view.model()
    assert (model.rowCount(), model.columnCount()) == (3, 2)
    assert model.item(1, 1).text() == "1"
    assert model.item(1, 1).isEditable()
    table.SetUseColumnTitleAsColumnHeader(True)
    table.SetLocked(True)
    assert model.horizontalHeaderItem(1).text() == "y"
    assert not model.item(1, 1).isEditable()
    view.setMRMLTableNode(None)
    assert model.columnCount() == 0
    with pytest.raises(ValueError, match="no table"):
        view.setMRMLTableNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode"))


def test_the_panel_is_grabbed_at_the_width_asked_for(tiny: Any, tmp_path: pathlib.Path) -> None:
    host.grab(tiny, tmp_path / "panel.png", width=480)
    image = qt.QImage(str(tmp_path / "panel.png"))
    assert image.width() == 480
    assert image.height() > 100
    tall = image.height()
    tiny.ui.inputs.collapsed = True
    host.grab(tiny, tmp_path / "folded.png", width=480)
    assert qt.QImage(str(tmp_path / "folded.png")).height() < tall


def test_starting_again_gives_the_running_host() -> None:
    assert slicerhost.start() is host
    assert sys.modules["qt"] is qt
