"""Stand-ins for Slicer's widgets that look into the MRML scene: node selectors, spin boxes, segment table.
They follow the real scene through its events, as the originals do."""

# Slicer chose these names.
# ruff: noqa: N801

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import shiboken6
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from .ctk_widgets import ctkSliderWidget
from .pythonqt import stand_in

Property, Signal = QtCore.Property, QtCore.Signal
_NODE_ID = int(QtCore.Qt.UserRole)


def _follow(widget: QtWidgets.QWidget, observed: Any, event: int, call: Callable[[Any], None]) -> tuple[Any, int]:
    """Observe something for as long as a widget lives; returns what removes the observer."""

    def notify(caller: Any, _event: str) -> None:
        if shiboken6.isValid(widget):
            call(caller)
        else:
            observed.RemoveObserver(tag)

    tag = observed.AddObserver(event, notify)
    return observed, tag


def _observe_scene(widget: SceneWidget, scene: Any) -> list[tuple[Any, int]]:
    events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent)
    return [
        *(_follow(widget, scene, event, lambda _: widget._scene_edited()) for event in events),
        _follow(widget, scene, scene.EndImportEvent, lambda _: widget._scene_imported()),
        (scene, scene.AddObserver(scene.NodeAboutToBeRemovedEvent, _leaving(widget))),
    ]


def _leaving(widget: SceneWidget) -> Callable[..., None]:
    @vtk.calldata_type(vtk.VTK_OBJECT)
    def notify(scene: Any, _event: str, node: Any) -> None:
        if shiboken6.isValid(widget) and not scene.IsBatchProcessing():
            widget._node_leaves(node)

    return notify


class SceneWidget(QtWidgets.QWidget):
    """What every MRML widget has: the scene, and the signal that passes it on to its children."""

    mrml_signals: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}
    mrml_slots: ClassVar[tuple[str, ...]] = ("setMRMLScene(vtkMRMLScene*)",)
    mrmlSceneChanged = Signal(object)
    _scene: Any = None
    _observed: tuple[tuple[Any, int], ...] = ()

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        for observed, tag in self._observed:
            observed.RemoveObserver(tag)
        self._scene = scene
        self._observed = tuple(_observe_scene(self, scene)) if scene else ()
        self._scene_edited()
        self.mrmlSceneChanged.emit(scene)

    def _scene_edited(self) -> None:
        """Called whenever a node comes or goes."""

    def _scene_imported(self) -> None:
        """Called when the nodes of a file have been added."""

    def _node_leaves(self, node: Any) -> None:
        """Called before a node goes."""


@stand_in
class qMRMLWidget(SceneWidget):
    pass


def _option(name: str, qt_type: Any) -> Any:
    return Property(qt_type, lambda self: self._options[name], lambda self, value: self._set_option(name, value))


@stand_in
class qMRMLNodeComboBox(SceneWidget):
    """Selects one node of given classes; the list follows nodes added, removed and renamed."""

    mrml_signals = SceneWidget.mrml_signals | {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged(PyObject)",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser(PyObject)",
        "currentNodeIDChanged(QString)": "currentNodeIDChanged(QString)",
    }
    mrml_slots = (
        *SceneWidget.mrml_slots,
        "setCurrentNode(vtkMRMLNode*)",
        "addNode()",
        "removeCurrentNode()",
    )
    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeAddedByUser = Signal(object)
    _box: Any = None
    _current_id: str = ""
    _options: Any = None
    _attributes: tuple[tuple[str, str, str | None], ...] = ()
    _named: tuple[tuple[Any, int], ...] = ()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._options = {
            "nodeTypes": [],
            "addEnabled": True,
            "removeEnabled": True,
            "editEnabled": False,
            "renameEnabled": False,
            "noneEnabled": False,
            "noneDisplay": "None",
            "showHidden": False,
            "showChildNodeTypes": True,
            "selectNodeUponCreation": True,
            "baseName": "",
        }
        self._box = QtWidgets.QComboBox(self)
        self._box.setFocusProxy(self)
        column = QtWidgets.QHBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._box)
        self._box.currentIndexChanged.connect(self._chosen)

    def _set_option(self, name: str, value: Any) -> None:
        self._options[name] = list(value) if name == "nodeTypes" else value
        self._scene_edited()

    def _accepts(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self._options["showHidden"]:
            return False
        children = self._options["showChildNodeTypes"]
        types = [t for t in self._options["nodeTypes"] if (node.IsA(t) if children else node.GetClassName() == t)]
        return bool(types) and all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
            for node_type, name, value in self._attributes
            if node.IsA(node_type)
        )

    def nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        every = (self._scene.GetNthNode(i) for i in range(self._scene.GetNumberOfNodes()))
        return [node for node in every if self._accepts(node)]

    def _scene_edited(self) -> None:
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        nodes = self.nodes()
        for observed, tag in self._named:
            observed.RemoveObserver(tag)
        self._named = tuple(_follow(self, node, vtk.vtkCommand.ModifiedEvent, self._renamed) for node in nodes)
        blocked = self._box.blockSignals(True)
        self._box.clear()
        if self._options["noneEnabled"]:
            self._box.addItem(self._options["noneDisplay"], "")
        for node in nodes:
            self._box.addItem(node.GetName() or "", node.GetID())
        # Without "None", Qt's combo box selects its first entry when it gets one: so does Slicer's.
        index = self._box.findData(self._current_id)
        self._box.setCurrentIndex(index if index >= 0 else min(0, self._box.count - 1))
        self._box.blockSignals(blocked)
        self._chosen()

    def _scene_imported(self) -> None:
        # Slicer's removes all rows and makes them anew, so that none is chosen in between.
        self._box.setCurrentIndex(0 if self._options["noneEnabled"] else -1)

    def _node_leaves(self, node: Any) -> None:
        # Qt's combo box chooses the next entry for a chosen one that is removed: so does Slicer's.
        row = self._box.findData(node.GetID())
        if row >= 0:
            self._box.removeItem(row)

    def _renamed(self, node: Any) -> None:
        index = self._box.findData(node.GetID())
        if index >= 0 and self._box.itemText(index) != node.GetName():
            self._box.setItemText(index, node.GetName() or "")

    def _chosen(self) -> None:
        chosen = self._box.currentData or ""
        if chosen != self._current_id:
            self._current_id = chosen
            self.currentNodeIDChanged.emit(chosen)
            self.currentNodeChanged.emit(self.currentNode())

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._current_id) if self._scene and self._current_id else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if isinstance(node, slicer.vtkMRMLNode) else node or "")

    def setCurrentNodeID(self, node_id: str) -> None:
        index = self._box.findData(node_id or "")
        # A node that is not in the list leaves nothing selected.
        self._box.setCurrentIndex(index if index >= 0 else (0 if self._options["noneEnabled"] else -1))

    def setCurrentNodeIndex(self, index: int) -> None:
        self._box.setCurrentIndex(index + int(self._options["noneEnabled"]))

    def nodeCount(self) -> int:
        return len(self.nodes())

    def nodeFromIndex(self, index: int) -> Any:
        nodes = self.nodes()
        return nodes[index] if 0 <= index < len(nodes) else None

    def addAttribute(self, node_type: str, name: str, value: str | None = None) -> None:
        self._attributes = (*self._attributes, (node_type, name, value))
        self._scene_edited()

    def addNode(self, node_type: str = "") -> Any:
        """What the list's "Create new …" entry does."""
        if not self._options["addEnabled"]:
            raise RuntimeError(f"'{self.objectName}' does not offer to create nodes")
        node_type = node_type or self._options["nodeTypes"][0]
        base = self._options["baseName"] or self._scene.GetTagByClassName(node_type)
        node = self._scene.AddNewNodeByClass(node_type, self._scene.GenerateUniqueName(base))
        if self._options["selectNodeUponCreation"]:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if not self._options["removeEnabled"]:
            raise RuntimeError(f"'{self.objectName}' does not offer to delete nodes")
        self._scene.RemoveNode(self.currentNode())

    nodeTypes = _option("nodeTypes", "QStringList")
    addEnabled = _option("addEnabled", bool)
    removeEnabled = _option("removeEnabled", bool)
    editEnabled = _option("editEnabled", bool)
    renameEnabled = _option("renameEnabled", bool)
    noneEnabled = _option("noneEnabled", bool)
    showHidden = _option("showHidden", bool)
    showChildNodeTypes = _option("showChildNodeTypes", bool)
    selectNodeUponCreation = _option("selectNodeUponCreation", bool)
    noneDisplay = _option("noneDisplay", str)
    baseName = _option("baseName", str)
    currentNodeID = Property(str, lambda self: self._current_id, setCurrentNodeID)


@stand_in
class qMRMLSegmentsTableView(SceneWidget):
    """Lists a segmentation's segments with their colours."""

    mrml_slots = (*SceneWidget.mrml_slots, "setSegmentationNode(vtkMRMLNode*)")
    _table: Any = None
    _node: Any = None
    _tag: int = 0

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._table = QtWidgets.QTableWidget(0, 1, self)
        self._table.setHorizontalHeaderLabels(["Name"])
        self._table.horizontalHeader().setStretchLastSection(True)
        QtWidgets.QVBoxLayout(self).addWidget(self._table)

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        if self._node is not None:
            self._node.RemoveObserver(self._tag)
        self._node = node
        if node is not None:
            _, self._tag = _follow(self, node, vtk.vtkCommand.AnyEvent, lambda _: self._scene_edited())
        self._scene_edited()

    def segmentCount(self) -> int:
        return int(self._table.rowCount)

    def _scene_edited(self) -> None:
        segmentation = self._node.GetSegmentation() if self._node is not None else None
        ids = segmentation.GetSegmentIDs() if segmentation else ()
        self._table.setRowCount(len(ids))
        for row, segment_id in enumerate(ids):
            segment = segmentation.GetSegment(segment_id)
            item = QtWidgets.QTableWidgetItem(segment.GetName())
            item.setData(_NODE_ID, segment_id)
            swatch = QtGui.QPixmap(16, 16)
            swatch.fill(QtGui.QColor.fromRgbF(*segment.GetColor()))
            item.setIcon(QtGui.QIcon(swatch))
            self._table.setItem(row, 0, item)


@stand_in
class qMRMLTableView(QtWidgets.QTableView):
    """Shows a table node's cells as VTK writes them, under the names of its columns."""

    mrml_signals: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}
    mrml_slots = ("setMRMLScene(vtkMRMLScene*)", "setMRMLTableNode(vtkMRMLNode*)")
    mrmlSceneChanged = Signal(object)
    selectionChanged = Signal()
    _node: Any = None
    _tag: int = 0

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setModel(QtGui.QStandardItemModel(self))

    def mrmlTableNode(self) -> Any:
        return self._node

    def setMRMLTableNode(self, node: Any) -> None:
        if node is not None and not node.IsA("vtkMRMLTableNode"):
            raise ValueError(f"{node.GetClassName()} is no table node")
        if self._node is not None:
            self._node.RemoveObserver(self._tag)
        self._node = node
        if node is not None:
            _, self._tag = _follow(self, node, vtk.vtkCommand.ModifiedEvent, lambda _: self._fill())
        self._fill()

    def _fill(self) -> None:
        model, table = self.model(), self._node.GetTable() if self._node is not None else None
        model.clear()
        for number in range(table.GetNumberOfColumns() if table is not None else 0):
            column = table.GetColumn(number)
            cells = [QtGui.QStandardItem(column.GetVariantValue(r).ToString()) for r in range(table.GetNumberOfRows())]
            for cell in cells:
                cell.setEditable(not self._node.GetLocked())
            model.appendColumn(cells)
            title = self._node.GetColumnTitle(column.GetName()) or column.GetName()
            named = self._node.GetUseColumnTitleAsColumnHeader()
            model.setHorizontalHeaderItem(number, QtGui.QStandardItem(title if named else f"{number + 1}"))


@stand_in
class qMRMLSliderWidget(ctkSliderWidget):
    mrml_slots = ("setMRMLScene(vtkMRMLScene*)",)

    def setMRMLScene(self, scene: Any) -> None:
        """Slicer takes units from the scene; the stand-in shows plain numbers."""


@stand_in
class qMRMLSpinBox(QtWidgets.QDoubleSpinBox):
    mrml_slots = ("setMRMLScene(vtkMRMLScene*)",)

    def setMRMLScene(self, scene: Any) -> None:
        """Slicer takes units from the scene; the stand-in shows plain numbers."""


WIDGETS: dict[str, type] = {
    cls.__name__: cls
    for cls in (qMRMLWidget, qMRMLNodeComboBox, qMRMLSegmentsTableView, qMRMLTableView, qMRMLSliderWidget, qMRMLSpinBox)
}
