"""The section Compare: two segmentations of one volume side by side."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from ..mrml.segmentations import reference_volume
from ..mrml.side_by_side import show_side_by_side
from .desk import Desk


class CompareSection:
    """What can be compared is what both networks have found in one volume."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ui = desk.ui
        self._ui.sideBySideButton.connect("clicked(bool)", self._on_side_by_side)

    def refresh(self) -> None:
        """Enable what can be done and say why the rest cannot."""
        possible = self._volume() is not None
        self._ui.sideBySideButton.enabled = possible
        self._ui.sideBySideButton.toolTip = (
            _("One network in each view, linked.") if possible else _("Segment one volume with both networks first.")
        )

    def _pair(self) -> tuple[Any, Any]:
        parameters = self._desk.parameters
        if parameters is None:
            return None, None
        return parameters.equivariantSegmentation, parameters.baselineSegmentation

    def _volume(self) -> Any:
        """The volume that both segmentations belong to, None if there is no such pair."""
        volumes = [reference_volume(node) for node in self._pair() if node is not None]
        return volumes[0] if len(volumes) == 2 and volumes[0] is volumes[1] else None

    def _on_side_by_side(self, _checked: bool = False) -> None:
        equivariant, baseline = self._pair()
        show_side_by_side(self._volume(), [(_("Equivariant"), equivariant), (_("Baseline"), baseline)])
