"""What a user of the section Compare does and sees; one small scan and segmentations of it, made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import slicer
import vtk

import slicerhost
from panel_user import QuickWorker, ThisProcess, User
from ScaleEquivSegLib.bundles import Label
from ScaleEquivSegLib.mrml.layouts import COMPARED_VIEWS
from ScaleEquivSegLib.mrml.segmentations import import_segmentation
from ScaleEquivSegLib.mrml.volumes import volume_from_node
from ScaleEquivSegLib.volume import Volume, make_geometry

FOUR_UP = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
RED_ALONE = slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
CLASSES = {1: "Head", 2: "Body"}


class ComparingWorker(ThisProcess):
    """Compares, and segments at once."""

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        return super()._answer(request) if request["type"] == "compare" else QuickWorker._answer(self, request)


class Comparer(User):
    """A user with one small scan and segmentations of it."""

    def __init__(self, host: slicerhost.Host) -> None:
        super().__init__(host)
        self.worker = self.quicken(ComparingWorker)
        self.volume = self.scan("scan")

    def scan(self, name: str) -> Any:
        geometry = make_geometry((12, 10, 8), (1.0, 1.0, 2.0), np.diag([1.0, 1.0, -1.0]), (3, -40, 12))
        return slicer.util.addVolumeFromArray(np.zeros(geometry.shape, np.int16), geometry.ijk_to_ras, name=name)

    def segmentation(self, name: str, head: slice, body: slice, classes: dict[int, str] = CLASSES) -> Any:
        """Head and body over some of the planes."""
        geometry = volume_from_node(self.volume).geometry
        array = np.zeros(geometry.shape, np.uint8)
        array[head, 2:6, 2:6] = 1
        array[body, 7:9, 2:9] = 2
        labels = [Label(value, title, (200, 40 * value, 0), {}) for value, title in classes.items()]
        return import_segmentation(Volume(array, geometry), labels, self.volume, name)

    def pair(self) -> tuple[Any, Any]:
        """Two that differ, chosen."""
        nodes = self.segmentation("one", slice(1, 5), slice(2, 6)), self.segmentation("two", slice(2, 6), slice(2, 6))
        self.choose_pair(*nodes)
        return nodes

    def choose_pair(self, a: Any, b: Any, reference: Any = None) -> None:
        self.ui.comparedASelector.setCurrentNode(a)
        self.ui.comparedBSelector.setCurrentNode(b)
        self.ui.referenceSelector.setCurrentNode(reference)

    def compare(self) -> str:
        assert self.ui.compareButton.enabled, self.said
        self.ui.compareButton.click()
        self.wait()
        return self.said

    @property
    def said(self) -> str:
        return str(self.ui.compareStatusLabel.text)

    def table(self) -> list[list[str]]:
        """The cells that the panel shows, the heading first."""
        model = self.ui.figuresTable.model()
        columns = range(model.columnCount())
        heading = [model.horizontalHeaderItem(column).text() for column in columns]
        return [heading, *([model.item(row, column).text() for column in columns] for row in range(model.rowCount()))]

    def tables(self) -> list[Any]:
        return list(slicer.util.getNodesByClass("vtkMRMLTableNode"))

    def named(self, name: str) -> Any:
        (node,) = [node for node in self.results if node.GetName() == name]
        return node

    def views(self) -> list[Any]:
        return [slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode") for name in COMPARED_VIEWS]

    @property
    def layout(self) -> int:
        return int(slicer.app.layoutManager().layout)

    def arrange(self, layout: int) -> None:
        slicer.app.layoutManager().setLayout(layout)


def comparer() -> Iterator[Comparer]:
    """The fixture of tests: a user in the usual layout, and everything as it was afterwards."""
    host = slicerhost.start()
    slicer.app.layoutManager().setLayout(FOUR_UP)
    user = Comparer(host)
    yield user
    slicer.app.layoutManager().setLayout(FOUR_UP)
    host.close()
    host.raise_exceptions()


def moved(node: Any) -> Any:
    """Put a node under a transform that turns and shifts."""
    matrix = vtk.vtkMatrix4x4()
    for row, values in enumerate([(0, -1, 0, 100), (1, 0, 0, 20), (0, 0, 1, 5), (0, 0, 0, 1)]):
        for column, value in enumerate(values):
            matrix.SetElement(row, column, value)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def array_of(node: Any, segment: str, volume: Any) -> np.ndarray:
    segment_id = node.GetSegmentation().GetSegmentIdBySegmentName(segment)
    assert segment_id, f"{node.GetName()} has no segment {segment}"
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume) > 0


def any_class(node: Any, volume: Any) -> np.ndarray:
    return array_of(node, "Head", volume) | array_of(node, "Body", volume)


def edit(node: Any, segment: str = "Head") -> None:
    """One voxel more, as a stroke in Segment Editor."""
    segment_id = node.GetSegmentation().GetSegmentIdBySegmentName(segment)
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(node.GetSegmentation().GetSegment(segment_id).GetRepresentation("Binary labelmap"))
    first = image.GetExtent()[::2]
    image.SetScalarComponentFromDouble(*first, 0, 1 - image.GetScalarComponentAsDouble(*first, 0))
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(image, node, segment_id, logic.MODE_REPLACE)


def shown_in(node: Any, views: list[Any]) -> list[bool]:
    display = node.GetDisplayNode()
    return [bool(display.GetVisibility() and display.IsDisplayableInView(view.GetID())) for view in views]
