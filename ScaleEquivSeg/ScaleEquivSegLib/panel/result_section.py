"""The section Result: where results go, how large the segments are, and their surfaces."""

from __future__ import annotations

from collections.abc import Sequence

import qt
from slicer.i18n import tr as _

from ..mrml.segmentations import show_closed_surfaces
from .desk import Desk
from .segmenting import Result


class ResultSection:
    """Shows what the latest run has found."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ui = desk.ui
        self._ui.volumesTable.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        self._ui.show3DButton.connect("toggled(bool)", self._on_show_3d)

    def refresh(self) -> None:
        """Enable what can be done."""
        self._ui.show3DButton.enabled = bool(self._segmentations())

    def show(self, results: Sequence[Result]) -> None:
        """The results of a run are in the scene."""
        for result in results:
            if result.bundle.is_baseline:
                self._desk.parameters.baselineSegmentation = result.node
            else:
                self._desk.parameters.equivariantSegmentation = result.node
        self._show_volumes(results)
        self._on_show_3d(self._ui.show3DButton.checked)

    def _show_volumes(self, results: Sequence[Result]) -> None:
        """One row per segment, one column per network, in millilitres."""
        table = self._ui.volumesTable
        names = list(results[0].ml)
        table.setRowCount(len(names))
        table.setColumnCount(len(results))
        table.setVerticalHeaderLabels([_("{segment} (ml)").format(segment=name) for name in names])
        table.setHorizontalHeaderLabels([_("Baseline") if r.bundle.is_baseline else _("Equivariant") for r in results])
        for column, result in enumerate(results):
            for row, name in enumerate(names):
                table.setItem(row, column, qt.QTableWidgetItem(f"{result.ml[name]:.2f}"))

    def _segmentations(self) -> list[object]:
        parameters = self._desk.parameters
        if parameters is None:
            return []
        both = (parameters.equivariantSegmentation, parameters.baselineSegmentation)
        return [node for node in both if node is not None]

    def _on_show_3d(self, visible: bool) -> None:
        show_closed_surfaces(self._segmentations(), visible)
