"""One row of the section Input: the volume of a channel, and the frame of it if it changes in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..bundles import Channel
from .showing import reach_by_keys


class ChannelRow:
    """A label, a selector of volumes, and a spin box of frames that shows only for a volume that has them."""

    def __init__(self, number: int, channel: Channel, on_volume: Callable[[int, Any], None]) -> None:
        self._number = number
        self._on_volume = on_volume
        self.selector = self._make_selector(channel)
        self.frames = self._make_frames(channel)
        self.label = qt.QLabel(f"{channel.name}:")
        self.label.setBuddy(self.selector)
        self.field = qt.QWidget()
        layout = qt.QHBoxLayout(self.field)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.selector, 1)
        layout.addWidget(self.frames)

    @property
    def controls(self) -> list[Any]:
        """What takes the keys, in this order; the selector itself does not, the combo box in it does."""
        return [*self.selector.findChildren(qt.QComboBox), self.frames]

    def show(self, volume: Any) -> None:
        """Show what is chosen; nobody hears of it, as the selector shows none for what it does not offer."""
        was_blocked = self.selector.blockSignals(True)
        self.selector.setCurrentNode(volume)
        self.selector.blockSignals(was_blocked)
        browser = browser_of(volume)
        self.frames.setVisible(browser is not None)
        if browser is not None:
            was_blocked = self.frames.blockSignals(True)
            self.frames.setRange(1, max(1, browser.GetNumberOfItems()))
            self.frames.suffix = f" / {browser.GetNumberOfItems()}"
            self.frames.value = browser.GetSelectedItemNumber() + 1
            self.frames.blockSignals(was_blocked)

    def remove_from(self, layout: Any) -> None:
        """Take the row out of a panel."""
        self.selector.blockSignals(True)  # until Qt deletes it, it follows the scene
        for widget in (self.label, self.field):
            layout.removeWidget(widget)
            widget.setParent(None)
            widget.deleteLater()

    def _make_selector(self, channel: Channel) -> Any:
        selector = slicer.qMRMLNodeComboBox()
        selector.objectName = f"channelSelector{self._number}"
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.showChildNodeTypes = False
        selector.addEnabled = selector.removeEnabled = False
        selector.noneEnabled = True
        selector.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)  # long names do not widen the panel
        selector.setMRMLScene(slicer.mrmlScene)
        reach_by_keys(selector)
        selector.toolTip = _("The volume that shows {channel} ({modality}).").format(
            channel=channel.name, modality=channel.modality
        )
        selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self._on_volume(self._number, node))
        return selector

    def _make_frames(self, channel: Channel) -> Any:
        frames = qt.QSpinBox()
        frames.objectName = f"frameSpinBox{self._number}"
        frames.toolTip = _("The frame of the sequence that is segmented as {channel}.").format(channel=channel.name)
        frames.hide()
        frames.connect("valueChanged(int)", self._on_frame)
        return frames

    def _on_frame(self, frame: int) -> None:
        browser = browser_of(self.selector.currentNode())
        if browser is not None:
            browser.SetSelectedItemNumber(frame - 1)


def browser_of(volume: Any) -> Any:
    """The browser of the sequence that a volume shows a frame of, None if it is no such volume."""
    return None if volume is None else slicer.modules.sequences.logic().GetFirstBrowserNodeForProxyNode(volume)
