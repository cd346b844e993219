"""Pictures of the current layout, its slice and 3D views drawn off screen by Slicer's own displayable managers,
its plots by VTK's charts, each under a title bar as in Slicer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from PySide6 import QtCore, QtGui
from vtk.util.numpy_support import vtk_to_numpy

from .arrangement import arranged
from .plot_view import draw_chart

# Without a display VTK would try X first, and complain.
os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

_SLICE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
)
# vtkMRMLViewDisplayableManager is left out: it crashes without the camera manager.
_THREE_D_MANAGERS = ("vtkMRMLModelDisplayableManager", "vtkMRMLSegmentationsDisplayableManager3D")
_TITLE_HEIGHT = 24


def register_displayable_managers(application_logic: Any) -> None:
    for factory, names in (
        (slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), _SLICE_MANAGERS),
        (slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), _THREE_D_MANAGERS),
    ):
        factory.SetMRMLApplicationLogic(application_logic)
        for name in names:
            factory.RegisterDisplayableManager(name)


def render_views(layout_manager: Any, path: str | Path, size: tuple[int, int]) -> None:
    """Write one PNG of `size` with the views of the current layout where it puts them."""
    scene = layout_manager.mrmlScene()
    picture = QtGui.QImage(*size, QtGui.QImage.Format_RGB32)
    picture.fill(QtGui.QColor(40, 40, 40))
    painter = QtGui.QPainter(picture)
    description = layout_manager.layoutLogic().GetLayoutNode().GetCurrentLayoutDescription()
    for class_name, name, place in arranged(description, picture.rect()):
        node = scene.GetSingletonNode(name, class_name)
        inside = place.adjusted(0, _TITLE_HEIGHT, 0, 0)
        image, offset = _picture(node, layout_manager, inside.width(), inside.height())
        painter.drawImage(inside.topLeft(), image)
        _draw_title(painter, QtCore.QRect(place.left(), place.top(), place.width(), _TITLE_HEIGHT), node, offset)
    painter.end()
    if not picture.save(str(path)):
        raise OSError(f"could not write {path}")


def _picture(node: Any, layout_manager: Any, width: int, height: int) -> tuple[QtGui.QImage, str]:
    """What a view shows, and what its bar says of where."""
    if node.IsA("vtkMRMLSliceNode"):
        logic = layout_manager.sliceWidget(node.GetLayoutName()).sliceLogic()
        return _slice_picture(node, logic, width, height), _offset_text(node, logic)
    if node.IsA("vtkMRMLViewNode"):
        return _three_d_picture(node, width, height), ""
    if node.IsA("vtkMRMLPlotViewNode"):
        window, _view = draw_chart(node.GetPlotChartNode(), width, height)
        return _grab(window), ""
    raise NotImplementedError(f"no picture of a {node.GetClassName()}")


def _offset_text(node: Any, logic: Any) -> str:
    # The offset counts along the slice's normal, whose nearest patient direction names it.
    matrix = node.GetSliceToRAS()
    normal = np.array([matrix.GetElement(row, 2) for row in range(3)])
    axis = int(np.abs(normal).argmax())
    return f"{('LPI', 'RAS')[int(normal[axis] > 0)][axis]}: {logic.GetSliceOffset():.1f} mm"


def _draw_title(painter: Any, bar: QtCore.QRect, node: Any, offset: str) -> None:
    colour = QtGui.QColor.fromRgbF(*node.GetLayoutColor())
    painter.fillRect(bar, colour)
    dark = colour.lightnessF() > 0.45
    painter.setPen(QtGui.QColor(20, 20, 20) if dark else QtGui.QColor(250, 250, 250))
    font = painter.font()
    font.setPixelSize(14)
    font.setBold(True)
    painter.setFont(font)
    text = bar.adjusted(8, 0, -8, 0)
    painter.drawText(text, QtCore.Qt.AlignVCenter | QtCore.Qt.AlignLeft, node.GetLayoutLabel() or node.GetName())
    font.setBold(False)
    painter.setFont(font)
    painter.drawText(text, QtCore.Qt.AlignVCenter | QtCore.Qt.AlignRight, offset)


def _window(width: int, height: int) -> tuple[Any, Any]:
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetSize(width, height)
    renderer = vtk.vtkRenderer()
    window.AddRenderer(renderer)
    # The displayable managers attach themselves to an interactor; it never runs.
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    return window, renderer


def _slice_picture(node: Any, logic: Any, width: int, height: int) -> QtGui.QImage:
    window, renderer = _window(width, height)
    renderer.SetBackground(0, 0, 0)
    logic.ResizeSliceNode(width, height)
    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    mapper.SetInputConnection(logic.GetImageDataConnection())
    background = vtk.vtkActor2D()
    background.SetMapper(mapper)
    if logic.GetImageDataConnection() is not None:
        # Before the managers add theirs: 2D actors cover each other in the order they come.
        renderer.AddViewProp(background)
    group = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance().InstantiateDisplayableManagers(renderer)
    group.SetMRMLDisplayableNode(node)
    image = _grab(window)
    _let_go(group, window)
    return image


def _three_d_picture(node: Any, width: int, height: int) -> QtGui.QImage:
    window, renderer = _window(width, height)
    group = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance().InstantiateDisplayableManagers(renderer)
    group.SetMRMLDisplayableNode(node)
    renderer.GradientBackgroundOn()
    renderer.SetBackground(*node.GetBackgroundColor())
    renderer.SetBackground2(*node.GetBackgroundColor2())
    camera = renderer.GetActiveCamera()
    camera.DeepCopy(slicer.modules.cameras.logic().GetViewActiveCameraNode(node).GetCamera())
    renderer.ResetCameraClippingRange()
    image = _grab(window)
    _let_go(group, window)
    return image


def reset_camera(node: Any) -> None:
    """Show everything in a 3D view, from the side from which it is seen."""
    window, renderer = _window(400, 400)
    group = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance().InstantiateDisplayableManagers(renderer)
    group.SetMRMLDisplayableNode(node)
    camera = slicer.modules.cameras.logic().GetViewActiveCameraNode(node)
    renderer.SetActiveCamera(camera.GetCamera())
    renderer.ResetCamera()
    _let_go(group, window)


def _let_go(group: Any, window: Any) -> None:
    # A manager that outlives its window would still answer to the scene.
    group.SetMRMLDisplayableNode(None)
    window.Finalize()


def _grab(window: Any) -> QtGui.QImage:
    window.Render()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.ReadFrontBufferOff()
    grabber.Update()
    pixels = grabber.GetOutput()
    columns, rows, _ = pixels.GetDimensions()
    values = vtk_to_numpy(pixels.GetPointData().GetScalars()).reshape(rows, columns, 3)
    upright = np.ascontiguousarray(values[::-1])
    return QtGui.QImage(upright.data, columns, rows, 3 * columns, QtGui.QImage.Format_RGB888).copy()
