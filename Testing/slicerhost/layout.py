"""Slicer's layout manager over the real layout node and logic: which views are shown,
and one slice logic for each."""

# Slicer chose these names.
# ruff: noqa: N801

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore

from .pythonqt import stand_in
from .views import reset_camera

Property, Signal = QtCore.Property, QtCore.Signal


class SliceView:
    """A view that is drawn only when the host is asked for a picture."""

    def __init__(self, node: Any) -> None:
        self._node = node

    def mrmlSliceNode(self) -> Any:
        return self._node

    def forceRender(self) -> None:
        self._node.Modified()

    scheduleRender = forceRender


class SliceController:
    def __init__(self, logic: Any) -> None:
        self._logic = logic

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    def setSliceOffsetValue(self, offset: float) -> None:
        self._logic.SetSliceOffset(offset)

    def setSliceVisible(self, visible: bool) -> None:
        self._logic.GetSliceNode().SetSliceVisible(visible)

    def setSliceLink(self, linked: bool) -> None:
        self._logic.GetSliceCompositeNode().SetLinkedControl(linked)


class SliceWidget:
    def __init__(self, logic: Any) -> None:
        self._logic = logic

    def sliceLogic(self) -> Any:
        return self._logic

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def sliceView(self) -> SliceView:
        return SliceView(self._logic.GetSliceNode())

    def sliceController(self) -> SliceController:
        return SliceController(self._logic)

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()


class ThreeDView:
    def __init__(self, node: Any) -> None:
        self._node = node

    def mrmlViewNode(self) -> Any:
        return self._node

    def resetFocalPoint(self) -> None:
        reset_camera(self._node)

    resetCamera = resetFocalPoint

    def forceRender(self) -> None:
        self._node.Modified()

    scheduleRender = forceRender


class ThreeDWidget:
    def __init__(self, node: Any) -> None:
        self._node = node

    def mrmlViewNode(self) -> Any:
        return self._node

    def threeDView(self) -> ThreeDView:
        return ThreeDView(self._node)


@stand_in
class qSlicerLayoutManager(QtCore.QObject):
    layoutChanged = Signal(int)
    _scene: Any = None
    _application_logic: Any = None
    _logic: Any = None
    _slice_logics: Any = None
    _view_logics: Any = None
    _widgets: Any = None
    _current: int = 0

    def __init__(self, scene: Any, application_logic: Any) -> None:
        super().__init__()
        self._scene, self._application_logic, self._widgets = scene, application_logic, {}
        self._slice_logics, self._view_logics = vtk.vtkCollection(), vtk.vtkCollection()
        application_logic.SetSliceLogics(self._slice_logics)
        application_logic.SetViewLogics(self._view_logics)
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(scene)
        node = self._logic.GetLayoutNode()
        node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._follow())
        node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        scene.AddObserver(slicer.vtkMRMLScene.EndCloseEvent, lambda *_: self._give_cameras())
        self._follow()

    def layoutLogic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return self._scene

    def setLayout(self, layout: int) -> None:
        node = self._logic.GetLayoutNode()
        if not node.IsLayoutDescription(int(layout)):
            raise ValueError(f"no layout {layout}: add its description to the layout node first")
        node.SetViewArrangement(int(layout))

    layout = Property(int, lambda self: self._logic.GetLayoutNode().GetViewArrangement(), setLayout)

    def shown_nodes(self) -> list[Any]:
        """The view nodes of the current layout, in its order."""
        nodes = self._logic.GetViewNodes()
        return [nodes.GetItemAsObject(i) for i in range(nodes.GetNumberOfItems())]

    def _follow(self) -> None:
        for node in self.shown_nodes():
            if isinstance(node, slicer.vtkMRMLSliceNode) and node.GetLayoutName() not in self._widgets:
                logic = slicer.vtkMRMLSliceLogic()
                logic.SetMRMLApplicationLogic(self._application_logic)
                logic.SetMRMLScene(self._scene)
                logic.SetSliceNode(node)
                self._slice_logics.AddItem(logic)
                self._widgets[node.GetLayoutName()] = SliceWidget(logic)
        self._give_cameras()
        if self._current != self.layout:
            self._current = self.layout
            self.layoutChanged.emit(self._current)

    def _give_cameras(self) -> None:
        # In Slicer the displayable manager of a view's camera does it.
        logic = slicer.vtkSlicerCamerasModuleLogic()
        logic.SetMRMLScene(self._scene)
        for view in self._shown("vtkMRMLViewNode"):
            if logic.GetViewActiveCameraNode(view) is None:
                self._scene.AddNewNodeByClass("vtkMRMLCameraNode").SetLayoutName(view.GetLayoutName())

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._widgets)

    def sliceWidget(self, name: str) -> SliceWidget | None:
        return self._widgets.get(name)

    def mrmlSliceLogics(self) -> Any:
        return self._slice_logics

    def resetSliceViews(self) -> None:
        for widget in self._widgets.values():
            widget.fitSliceToBackground()

    def _shown(self, class_name: str) -> list[Any]:
        return [node for node in self.shown_nodes() if node.IsA(class_name)]

    threeDViewCount = Property(int, lambda self: len(self._shown("vtkMRMLViewNode")))
    plotViewCount = Property(int, lambda self: len(self._shown("vtkMRMLPlotViewNode")))
    tableViewCount = Property(int, lambda self: len(self._shown("vtkMRMLTableViewNode")))

    def threeDWidget(self, index: int) -> ThreeDWidget | None:
        nodes = self._shown("vtkMRMLViewNode")
        return ThreeDWidget(nodes[index]) if 0 <= index < len(nodes) else None

    def resetThreeDViews(self) -> None:
        for node in self._shown("vtkMRMLViewNode"):
            reset_camera(node)
