"""The section Input: the task, a volume for each of its channels, and the region to segment."""

from __future__ import annotations

from collections import Counter
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..bundles import Channel
from ..errors import SegmentationError
from ..mrml.placing import matrix_between, region_seen_from
from ..mrml.volumes import check_scan, grid_of
from .assigning import suggested, task_meant
from .channel_row import ChannelRow, browser_of
from .desk import Desk
from .showing import show_choices
from .watching import Watch


class InputSection:
    """The rows of channels follow the task; a channel is given the volume whose name says that it is meant."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ui = desk.ui
        self._channels: tuple[Channel, ...] = ()
        self._rows: list[ChannelRow] = []
        self._offered: set[str] | None = None
        self._missing_task = ""
        self._new_region = ""
        """The id of a region that was made before there was a volume to fit it to."""
        self._told_of: list[Any] = []
        """The volumes that were chosen at the last look."""
        self._watch = Watch(desk.changed_soon)
        self._ui.taskSelector.connect("currentTextChanged(QString)", self._on_task)
        self._ui.regionSelector.connect("nodeAddedByUser(vtkMRMLNode*)", self._on_new_region)

    @property
    def volumes(self) -> list[Any]:
        """The node chosen for each channel of the task, None for one without."""
        parameters = self._desk.parameters
        chosen = [] if parameters is None else list(parameters.inputVolumes)
        return (chosen + [None] * len(self._channels))[: len(self._channels)]

    @property
    def selectors(self) -> list[Any]:
        """The selectors of volumes, one for each channel."""
        return [row.selector for row in self._rows]

    @property
    def region(self) -> Any:
        """The node of the region of interest, None for the whole volume."""
        return self._desk.parameters.regionOfInterest

    def refresh(self) -> None:
        """Follow the choices."""
        parameters = self._desk.parameters
        self._ui.inputSection.enabled = not self._desk.running
        if parameters is None:
            self._offered = None
            self._missing_task = ""
            self._watch.watch([])
            return
        self._show_task()
        self._show_channels()
        self._assign()
        for row, volume in zip(self._rows, self.volumes, strict=True):
            row.show(volume)
        self._fit_new_region()
        self._forget_outcome()
        self._watch_chosen()

    def obstacle(self) -> str:
        """Why these volumes cannot be segmented, empty if they can."""
        for channel, volume in zip(self._channels, self.volumes, strict=True):
            if problem := _obstacle_of(volume):
                return problem if len(self._channels) == 1 else f"{channel.name}: {problem}"
        return self._twice() or self._misplaced()

    # Task

    def _show_task(self) -> None:
        parameters, tasks = self._desk.parameters, self._desk.models.tasks
        if tasks and parameters.task not in tasks:
            self._missing_task = parameters.task
            parameters.task = tasks[0]  # which refreshes again
        self._follow_names()
        show_choices(self._ui.taskSelector, tasks, parameters.task)
        self._ui.taskNote.text = _("There is no model for {task} here; {other} is shown instead.").format(
            task=self._missing_task, other=parameters.task
        )
        self._ui.taskNote.setVisible(bool(self._missing_task))

    def _follow_names(self) -> None:
        """While the user has chosen neither task nor volume, a new volume whose name means a task chooses that."""
        parameters = self._desk.parameters
        if parameters.taskChosen or any(volume is not None for volume in parameters.inputVolumes):
            return
        tasks = {task: self._channels_of(task) for task in self._desk.models.tasks}
        meant = task_meant(tasks, [node.GetName() for node in self._new_volumes()])
        if meant not in (None, parameters.task):
            self._missing_task = ""
            parameters.task = meant  # which refreshes again

    def _on_task(self, task: str) -> None:
        parameters = self._desk.parameters
        if parameters is None or not task:
            return
        self._missing_task = ""
        volume_of = {channel.name: volume for channel, volume in zip(self._channels, self.volumes, strict=True)}
        self._offered = set()  # for another task each volume may be meant
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.inputVolumes = [volume_of.get(channel.name) for channel in self._channels_of(task)]
            parameters.task = task
            parameters.taskChosen = True

    def _channels_of(self, task: str) -> tuple[Channel, ...]:
        return next((bundle.inputs for bundle in self._desk.models.bundles if bundle.task == task), ())

    # Channels

    def _show_channels(self) -> None:
        """A row for each channel of the task, made anew if they changed."""
        channels = self._channels_of(self._desk.parameters.task)
        if channels == self._channels:
            return
        self._channels = channels
        layout = self._ui.channelsWidget.layout()
        for row in self._rows:
            row.remove_from(layout)
        self._rows = [ChannelRow(number, channel, self._on_volume) for number, channel in enumerate(channels)]
        before = self._ui.taskSelector
        for row in self._rows:
            layout.addRow(row.label, row.field)
            for control in row.controls:
                qt.QWidget.setTabOrder(before, control)  # else made last, it would be reached last
                before = control

    def _assign(self) -> None:
        """Give channels without a volume the only one that is meant by its name.

        A volume is given once, when it is new: where the user has chosen none since, none it stays.
        """
        volumes = self.volumes
        new, free = self._new_volumes(), [node for node in _scans() if node not in volumes]
        self._offered = {node.GetID() for node in _scans()}
        for number, found in enumerate(suggested(self._channels, [node.GetName() for node in free])):
            if found is not None and volumes[number] is None and free[found] in new:
                volumes[number] = free[found]
        if volumes != self.volumes:
            self._desk.parameters.inputVolumes = volumes

    def _new_volumes(self) -> list[Any]:
        """Those that were not here at the last look; all, before any channel had one."""
        if not list(self._desk.parameters.inputVolumes):
            return _scans()
        return [] if self._offered is None else [node for node in _scans() if node.GetID() not in self._offered]

    def _on_volume(self, number: int, node: Any) -> None:
        parameters, volumes = self._desk.parameters, self.volumes
        if parameters is not None and volumes[number] is not node:
            volumes[number] = node
            with slicer.util.NodeModify(parameters.parameterNode):
                parameters.inputVolumes = volumes
                # None may also be what is left of a volume that was deleted.
                parameters.taskChosen = parameters.taskChosen or node is not None

    def _forget_outcome(self) -> None:
        """What became of the last job is not to be read for what becomes of another volume."""
        ids = [volume.GetID() for volume in self.volumes if volume is not None]
        if ids and ids != self._told_of and not self._desk.running:
            if self._told_of:
                self._desk.outcome = ""
            self._told_of = ids

    def _watch_chosen(self) -> None:
        volumes = [volume for volume in self.volumes if volume is not None]
        others = [self.region, *map(browser_of, volumes)]
        self._watch.watch([*volumes, *(node for node in others if node is not None)])

    def _twice(self) -> str:
        """Which channels have one volume between them, empty if none have."""
        volume, times = Counter(self.volumes).most_common(1)[0] if self._channels else (None, 0)
        if times < 2:
            return ""
        names = [channel.name for channel, chosen in zip(self._channels, self.volumes, strict=True) if chosen is volume]
        return _("{channels} have the same volume; choose a different one for each.").format(
            channels=_(" and ").join(names)
        )

    # Place

    def _misplaced(self) -> str:
        """Why the volumes and the region cannot be seen from one another, empty if they can."""
        if not self._channels:
            return ""
        first, *others = self.volumes
        try:
            for other in others:
                matrix_between(other, first)
            if self.region is not None:
                box = region_seen_from(first, self.region)
                if not all(box.bounds(grid_of(first))):
                    return _("The region {name} holds no voxel of {volume}; move it there, or make it larger.").format(
                        name=self.region.GetName(), volume=first.GetName()
                    )
        except SegmentationError as error:
            return str(error)
        return ""

    def _on_new_region(self, region: Any) -> None:
        """A region that was just made holds all of the volume, to be made smaller by its handles."""
        self._new_region = region.GetID()
        self._fit_new_region()

    def _fit_new_region(self) -> None:
        """Where there is no volume yet, as soon as there is one, unless the region was drawn or deleted meanwhile."""
        region = slicer.mrmlScene.GetNodeByID(self._new_region) if self._new_region else None
        if region is None or any(region.GetSize()):
            self._new_region = ""
        elif self.volumes and self.volumes[0] is not None:
            self._new_region = ""
            bounds = [0.0] * 6
            self.volumes[0].GetRASBounds(bounds)
            low, high = bounds[::2], bounds[1::2]
            region.SetCenterWorld([(a + b) / 2 for a, b in zip(low, high, strict=True)])
            region.SetSizeWorld([b - a for a, b in zip(low, high, strict=True)])


def _scans() -> list[Any]:
    """The nodes that the selectors of channels offer."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [
        node for node in nodes if node.GetClassName() == "vtkMRMLScalarVolumeNode" and not node.GetHideFromEditors()
    ]


def _obstacle_of(volume: Any) -> str:
    """Why a volume node cannot be segmented, empty if it can; without one, also why there may be none to choose."""
    try:
        check_scan(volume)
    except SegmentationError as error:
        return " ".join([str(error), *(_no_scans() if volume is None else [])])
    return ""


def _no_scans() -> list[str]:
    """What there is instead of a scan and what to do with it, nothing if there is a scan."""
    labels = _("{name} is a label map; load its scan, or convert it in Volumes if it is a scan.")
    several = _("{name} has several values per voxel; make a volume of one in Vector to Scalar Volume.")
    shown = [node for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode") if not node.GetHideFromEditors()]
    texts = [labels if node.IsA("vtkMRMLLabelMapVolumeNode") else several for node in shown]
    return [] if _scans() else [text.format(name=node.GetName()) for node, text in zip(shown, texts, strict=True)]
