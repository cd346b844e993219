"""The section Input: the task, and a volume for each of its channels."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..bundles import Channel
from .desk import Desk
from .showing import show_choices


class InputSection:
    """The rows of channels follow the task."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ui = desk.ui
        self._channels: tuple[Channel, ...] = ()
        self._selectors: list[Any] = []
        self._rows: list[Any] = []
        self._ui.taskSelector.connect("currentTextChanged(QString)", self._on_task)

    @property
    def volumes(self) -> list[Any]:
        """The node chosen for each channel of the task, None for one without."""
        parameters = self._desk.parameters
        chosen = [] if parameters is None else list(parameters.inputVolumes)
        return (chosen + [None] * len(self._channels))[: len(self._channels)]

    def refresh(self) -> None:
        """Follow the choices."""
        parameters = self._desk.parameters
        self._ui.inputSection.enabled = not self._desk.running
        if parameters is None:
            return
        tasks = self._desk.models.tasks
        if tasks and parameters.task not in tasks:
            parameters.task = tasks[0]  # which refreshes again
        show_choices(self._ui.taskSelector, tasks, parameters.task)
        self._show_channels()
        for selector, volume in zip(self._selectors, self.volumes, strict=True):
            selector.setCurrentNode(volume)

    def obstacle(self) -> str:
        """Why these volumes cannot be segmented, empty if they can."""
        for channel, volume in zip(self._channels, self.volumes, strict=True):
            if problem := _obstacle_of(volume):
                return problem if len(self._channels) == 1 else f"{channel.name}: {problem}"
        return ""

    def _on_task(self, task: str) -> None:
        if self._desk.parameters is not None and task:
            self._desk.parameters.task = task

    # Channels

    def _show_channels(self) -> None:
        """A row for each channel of the task, made anew if they changed."""
        bundles = [bundle for bundle in self._desk.models.bundles if bundle.task == self._desk.parameters.task]
        channels = bundles[0].inputs if bundles else ()
        if channels == self._channels:
            return
        self._channels = channels
        layout = self._ui.channelsWidget.layout()
        for widget in self._rows:
            layout.removeWidget(widget)
            widget.setParent(None)
            widget.deleteLater()
        self._selectors = [self._make_selector(number) for number in range(len(channels))]
        labels = [qt.QLabel(f"{channel.name}:") for channel in channels]
        for row in zip(labels, self._selectors, strict=True):
            layout.addRow(*row)
        self._rows = [*labels, *self._selectors]

    def _make_selector(self, number: int) -> Any:
        channel = self._channels[number]
        selector = slicer.qMRMLNodeComboBox()
        selector.objectName = f"channelSelector{number}"
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.showChildNodeTypes = False
        selector.addEnabled = selector.removeEnabled = False
        selector.noneEnabled = True
        selector.setMRMLScene(slicer.mrmlScene)
        selector.toolTip = _("The volume that shows {channel} ({modality}).").format(
            channel=channel.name, modality=channel.modality
        )
        selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self._on_volume(number, node))
        return selector

    def _on_volume(self, number: int, node: Any) -> None:
        volumes = self.volumes
        if self._desk.parameters is not None and volumes[number] is not node:
            volumes[number] = node
            self._desk.parameters.inputVolumes = volumes


def _obstacle_of(volume: Any) -> str:
    """Why a volume node cannot be segmented, empty if it can."""
    if volume is None:
        return _("Choose a volume.")
    image = volume.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        return _("The volume has no voxels.")
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        return _("This is a label map; choose the scan it belongs to.")
    if image.GetNumberOfScalarComponents() != 1:
        return _("This volume has several values per voxel; extract one component first.")
    return ""
