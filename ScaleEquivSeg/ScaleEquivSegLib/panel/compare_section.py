"""The section Compare: how far two segmentations of one volume agree, where they differ, and both side by side."""

from __future__ import annotations

from html import escape
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..errors import SegmentationError
from ..mrml.layouts import SIDE_BY_SIDE_LAYOUT, add_layouts, is_shown, leave_layout, no_views
from ..mrml.products import is_out_of_date
from ..mrml.regions import kept_regions, show_region
from ..mrml.side_by_side import Side, are_side_by_side, end_side_by_side, show_side_by_side
from .comparing import Compared, Comparing
from .desk import Desk
from .packages import Packages
from .starter import Starter
from .watching import Watch

COLOURS = (slicer.vtkSegmentation.SegmentModified, slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent)
"""What happens to a map when its colours change, or what of it is visible."""


class CompareSection:
    """Shows what was made of the segmentations that are chosen; choose others, and it shows what was made of those."""

    def __init__(self, desk: Desk, packages: Packages) -> None:
        self._desk = desk
        self._ui = desk.ui
        self._packages = packages
        self._region: tuple[str, int] = ("", -1)
        """The map of agreement whose regions are looked at, and which of them."""
        self._arranging = False
        self._ui.figuresTable.verticalHeader().hide()
        self._starter = Starter(desk, self._ui.compareButton, self._ui.compareStatusLabel, self._comparing)
        self._shown_map = Watch(desk.changed_soon, COLOURS)
        self._side_by_side_tip = self._ui.sideBySideButton.toolTip
        self._ui.previousRegionButton.connect("clicked(bool)", self._on_previous)
        self._ui.nextRegionButton.connect("clicked(bool)", self._on_next)
        self._ui.sideBySideButton.connect("clicked(bool)", self._on_side_by_side)
        add_layouts()
        if not no_views():
            slicer.app.layoutManager().connect("layoutChanged(int)", self._on_layout)

    def close(self) -> None:
        """Listen to the views no longer."""
        if not no_views():
            slicer.app.layoutManager().disconnect("layoutChanged(int)", self._on_layout)

    def refresh(self) -> None:
        """Enable what can be done and say why the rest cannot."""
        compared, obstacle = self._compared()
        self._starter.refresh(self._packages.obstacle() or obstacle)
        self._show_figures(compared)
        self._show_region_line()
        self._show_legend(compared)
        if not slicer.mrmlScene.IsBatchProcessing() and not slicer.mrmlScene.IsClosing():
            self._follow_side_by_side(compared, obstacle)

    # What is compared

    def _compared(self) -> tuple[Compared | None, str]:
        """What is chosen, or why it cannot be compared."""
        parameters = self._desk.parameters
        if parameters is None:
            return None, _("The scene is being closed.")
        pair = (parameters.equivariantSegmentation, parameters.baselineSegmentation)
        if pair[0] is None or pair[1] is None:
            return None, _("Choose two segmentations, or segment a volume with both networks.")
        chosen = list(parameters.inputVolumes)
        try:
            return Compared.of(*pair, parameters.reference, chosen[0] if chosen else None), ""
        except SegmentationError as error:
            return None, str(error)

    def _comparing(self) -> Comparing | None:
        compared, _obstacle = self._compared()
        return None if compared is None else Comparing(compared)

    def _show_figures(self, compared: Compared | None) -> None:
        table = None if compared is None else compared.figures
        if self._ui.figuresTable.mrmlTableNode() is not table:
            self._ui.figuresTable.setMRMLTableNode(table)
        self._ui.figuresTable.resizeColumnsToContents()
        self._ui.figuresNote.setVisible(table is not None and is_out_of_date(table))

    def _show_legend(self, compared: Compared | None) -> None:
        """What the colours of the maps mean; those of the errors of both are the same."""
        shown = [] if compared is None else [node for node in _maps_of(compared)[:1] if node is not None]
        self._shown_map.watch(shown)
        self._ui.legendLabel.text = "".join(map(_legend, shown))
        self._ui.legendLabel.setVisible(bool(shown))

    # Regions of disagreement

    def _agreement(self) -> Any:
        """The map of agreement of what is chosen, None if it was not made."""
        compared, _obstacle = self._compared()
        return None if compared is None else compared.agreement

    def _show_region_line(self) -> None:
        node = self._agreement()
        found = None if node is None else kept_regions(node)
        listed = 0 if found is None else len(found.ml)
        if node is None or self._region[0] != node.GetID() or self._region[1] >= listed:
            self._region = ("" if node is None else node.GetID(), -1)
        number = self._region[1]
        self._ui.previousRegionButton.enabled = number > 0
        self._ui.nextRegionButton.enabled = number + 1 < listed
        if found is None:
            text = ""
        elif number < 0:
            text = _("Regions of disagreement: {count}").format(count=found.count)
        else:
            text = _("Region {number} of {count}: {ml:.2f} ml").format(
                number=number + 1, count=found.count, ml=found.ml[number]
            )
        if node is not None and is_out_of_date(node):
            text = _("Out of date: {regions}").format(regions=text)
        self._ui.disagreementLabel.text = text
        self._ui.disagreementLabel.setVisible(bool(text))

    def _on_previous(self, _checked: bool = False) -> None:
        self._go(-1)

    def _on_next(self, _checked: bool = False) -> None:
        self._go(1)

    def _go(self, step: int) -> None:
        node = self._agreement()
        self._region = (node.GetID(), self._region[1] + step)
        show_region(node, self._region[1])
        self._show_region_line()

    # Side by side

    def _follow_side_by_side(self, compared: Compared | None, obstacle: str) -> None:
        """The button says how the views are arranged; arranged otherwise, they show every segmentation as before."""
        if self._arranging:
            return
        shown = is_shown(SIDE_BY_SIDE_LAYOUT)
        button = self._ui.sideBySideButton
        button.checked = shown
        button.enabled = shown or not (obstacle or no_views())
        button.toolTip = obstacle or no_views() or self._side_by_side_tip
        if not shown:
            end_side_by_side(slicer.mrmlScene)
        elif compared is not None and not are_side_by_side(slicer.mrmlScene, _sides_of(compared)):
            self._show(compared)

    def _show(self, compared: Compared) -> None:
        self._arranging = True
        try:
            show_side_by_side(compared.volume, _sides_of(compared))
        finally:
            self._arranging = False

    def _on_side_by_side(self, checked: bool) -> None:
        compared, _obstacle = self._compared()
        if checked and compared is not None:
            self._show(compared)
        else:
            leave_layout(SIDE_BY_SIDE_LAYOUT)
        self._desk.changed()

    def _on_layout(self, _layout: int) -> None:
        self._desk.changed()


def _maps_of(compared: Compared) -> list[Any]:
    """For each of the pair its errors, if there is a reference, else the map of agreement; None if it was not made."""
    return compared.errors or [compared.agreement] * 2


def _sides_of(compared: Compared) -> list[Side]:
    """Each with its map."""
    return [
        Side(node.GetName(), [node, *([shown] if shown is not None else [])])
        for node, shown in zip(compared.pair, _maps_of(compared), strict=True)
    ]


def _legend(node: slicer.vtkMRMLSegmentationNode) -> str:
    """A line of HTML for each segment, its colour before its name."""
    lines, display = [], node.GetDisplayNode()
    for segment_id in node.GetSegmentation().GetSegmentIDs():
        segment = node.GetSegmentation().GetSegment(segment_id)
        color = "".join(f"{round(255 * part):02x}" for part in segment.GetColor())
        visible = display is None or display.GetSegmentVisibility(segment_id)
        name = segment.GetName() if visible else _("{segment} (hidden)").format(segment=segment.GetName())
        lines.append(f'<span style="color:#{color}">\N{BLACK SQUARE}</span> {escape(name)}')
    return "<br>".join(lines)
