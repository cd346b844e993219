"""A user who does anything at any moment, as the numbers of a seed will have it, and knows which nodes are theirs."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from vtk.util.numpy_support import vtk_to_numpy

import slicerhost
from panel_user import MODULE, User
from ScaleEquivSegLib.mrml.volumes import grid_of, has_voxels

DATA = ("ScalarVolume", "LabelMapVolume", "Segmentation", "Table", "PlotChart", "PlotSeries", "Transform", "MarkupsROI")
"""What a list of nodes shows, and what can be deleted and renamed there."""
WORKERS = "workers"
"""The file with the process id of every worker that was started."""
PRODUCT = "ScaleEquivSeg.Product"


class RandomUser(User):
    """`kept` has what every node held when its owner, the user or a finished run, last changed it."""

    def __init__(self, host: slicerhost.Host, seed: int, folder: Path, models: Path) -> None:
        super().__init__(host)
        self.random = random.Random(seed)
        self.folder = folder
        """Where their files are."""
        self._models = models
        self.kept: dict[str, str] = {}
        self.given_away: set[str] = set()
        """Nodes that the user has agreed to have replaced."""
        self.unfitted: set[str] = set()
        """Regions that were made before there was a volume, to which the panel may fit them once."""
        self._histories: dict[Any, Any] = {}
        self._done = 0
        host.answer = self._answer

    def perhaps(self, probability: float = 0.5) -> bool:
        return self.random.random() < probability

    def settle(self) -> None:
        """Let the panel take notice."""
        self.host.process_events()
        print("   ", self.status)
        self.host.raise_exceptions()

    def data(self) -> list[Any]:
        """The nodes that the user sees in lists."""
        nodes = [node for kind in DATA for node in slicer.util.getNodesByClass(f"vtkMRML{kind}Node")]
        return [node for node in dict.fromkeys(nodes) if not node.GetHideFromEditors()]

    def keep(self, node: Any) -> Any:
        """From now on the node is to stay as it is."""
        self.kept[node.GetID()] = contents(node)
        return node

    def history_of(self, segmentation: Any) -> Any:
        """What there is to be undone, and done again, as Segment Editor keeps it."""
        if segmentation not in self._histories:
            self._histories[segmentation] = slicer.vtkSegmentationHistory()
            self._histories[segmentation].SetSegmentation(segmentation.GetSegmentation())
        return self._histories[segmentation]

    def run_was_done(self) -> bool:
        """Whether a run has ended with a result since this was asked last."""
        lines = self.ui.logText.toPlainText().splitlines()
        before, self._done = self._done, sum(line.startswith("Done.") for line in lines)
        return self._done > before

    @property
    def workers(self) -> list[int]:
        """Every worker that was started."""
        file = self.folder / WORKERS
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def channels(self) -> list[Any]:
        return self.ui.channelsWidget.findChildren(slicer.qMRMLNodeComboBox)

    def _answer(self, dialog: slicerhost.Dialog) -> Any:
        self.host.process_events()  # while a dialog is open everything else goes on
        if dialog.kind == "file":
            path = self._models if "folder" in dialog.title else self.folder / f"table{self.random.randrange(2)}"
            return str(path) if self.perhaps(0.8) else ""
        agreed = self.perhaps(0.7)
        if agreed and dialog.text.startswith("All segments of"):
            outputs = [self.ui.equivariantOutputSelector.currentNode(), self.ui.baselineOutputSelector.currentNode()]
            self.given_away |= {node.GetID() for node in outputs if node is not None and node.GetName() in dialog.text}
        return agreed

    def enter_anew(self) -> None:
        """Load the module once more."""
        self.module, self.widget = self.host.load_module(MODULE)
        self.ui = self.widget.ui
        self._done = 0


def contents(node: Any) -> str:
    """What a node holds, as one word; not how it is shown."""
    parts: list[Any] = [node.GetClassName(), node.GetName()]
    if node.IsA("vtkMRMLScalarVolumeNode") and has_voxels(node):
        parts += [slicer.util.arrayFromVolume(node).tobytes(), grid_of(node).ijk_to_ras.round(6).tolist()]
    elif node.IsA("vtkMRMLSegmentationNode"):
        segmentation = node.GetSegmentation()
        parts += [segment_contents(segmentation.GetSegment(each)) for each in segmentation.GetSegmentIDs()]
    elif node.IsA("vtkMRMLMarkupsROINode"):
        parts += [node.GetCenter(), node.GetSize(), node.GetInsideOut()]
    return hashlib.sha1(repr(parts).encode()).hexdigest()


def segment_contents(segment: Any) -> list[Any]:
    """The name of a segment, and where its voxels are on its grid."""
    labels = segment.GetRepresentation("Binary labelmap")
    if labels is None or not labels.GetNumberOfPoints():
        return [segment.GetName(), []]
    array = vtk_to_numpy(labels.GetPointData().GetScalars()).reshape(labels.GetDimensions()[::-1])
    places = np.argwhere(array == segment.GetLabelValue()) + labels.GetExtent()[4::-2]
    return [segment.GetName(), places.tolist()]
