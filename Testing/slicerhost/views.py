"""Pictures of the current layout's slice and 3D views, drawn off screen by Slicer's own displayable managers,
side by side, each under a title bar as in Slicer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from PySide6 import QtCore, QtGui
from vtk.util.numpy_support import vtk_to_numpy

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
_GAP = 2


def register_displayable_managers(application_logic: Any) -> None:
    for factory, names in (
        (slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), _SLICE_MANAGERS),
        (slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), _THREE_D_MANAGERS),
    ):
        factory.SetMRMLApplicationLogic(application_logic)
        for name in names:
            factory.RegisterDisplayableManager(name)


def render_views(layout_manager: Any, path: str | Path, size: tuple[int, int]) -> None:
    """Write one PNG of `size` with every slice and 3D view of the current layout."""
    nodes = [n for n in layout_manager.shown_nodes() if n.IsA("vtkMRMLSliceNode") or n.IsA("vtkMRMLViewNode")]
    if not nodes:
        raise ValueError("the current layout has no slice or 3D view")
    picture = QtGui.QImage(*size, QtGui.QImage.Format_RGB32)
    picture.fill(QtGui.QColor(40, 40, 40))
    painter = QtGui.QPainter(picture)
    width = (size[0] - _GAP * (len(nodes) - 1)) // len(nodes)
    height = size[1] - _TITLE_HEIGHT
    for column, node in enumerate(nodes):
        left = column * (width + _GAP)
        if node.IsA("vtkMRMLSliceNode"):
            logic = layout_manager.sliceWidget(node.GetLayoutName()).sliceLogic()
            image, offset = _slice_picture(node, logic, width, height), _offset_text(node, logic)
        else:
            image, offset = _three_d_picture(node, width, height), ""
        painter.drawImage(left, _TITLE_HEIGHT, image)
        _draw_title(painter, QtCore.QRect(left, 0, width, _TITLE_HEIGHT), node, offset)
    painter.end()
    if not picture.save(str(path)):
        raise OSError(f"could not write {path}")


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
    return _grab(window, group)


def _three_d_picture(node: Any, width: int, height: int) -> QtGui.QImage:
    window, renderer = _window(width, height)
    group = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance().InstantiateDisplayableManagers(renderer)
    group.SetMRMLDisplayableNode(node)
    renderer.GradientBackgroundOn()
    renderer.SetBackground(*node.GetBackgroundColor())
    renderer.SetBackground2(*node.GetBackgroundColor2())
    camera = renderer.GetActiveCamera()
    # From the front, the head up, as a Slicer 3D view starts.
    camera.SetFocalPoint(0, 0, 0)
    camera.SetPosition(0, 1, 0)
    camera.SetViewUp(0, 0, 1)
    renderer.ResetCamera()
    return _grab(window, group)


def _grab(window: Any, group: Any) -> QtGui.QImage:
    window.Render()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.ReadFrontBufferOff()
    grabber.Update()
    pixels = grabber.GetOutput()
    columns, rows, _ = pixels.GetDimensions()
    values = vtk_to_numpy(pixels.GetPointData().GetScalars()).reshape(rows, columns, 3)
    upright = np.ascontiguousarray(values[::-1])
    # A manager that outlives its window would still answer to the scene.
    group.SetMRMLDisplayableNode(None)
    window.Finalize()
    return QtGui.QImage(upright.data, columns, rows, 3 * columns, QtGui.QImage.Format_RGB888).copy()
