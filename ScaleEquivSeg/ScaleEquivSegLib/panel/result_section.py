"""The section Result: where results go, how large the segments are, and their surfaces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..bundles import Bundle
from ..errors import SegmentationError
from ..mrml.contents import volumes_ml
from ..mrml.products import is_out_of_date, mark_up_to_date
from ..mrml.segmentations import reference_volume, show_closed_surfaces
from ..mrml.side_by_side import has_surfaces_shown, show_as_before
from .desk import Desk
from .segmenting import VOLUMES_ML, Result, Target
from .watching import Watch


class ResultSection:
    """Shows what the latest run of each network has found."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ui = desk.ui
        header = self._ui.volumesTable.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.Stretch)
        header.setMinimumSectionSize(header.fontMetrics().boundingRect(_("Equivariant")).width() + 4)
        self._watch = Watch(desk.changed_soon, [slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent])
        self._ui.measureButton.connect("clicked(bool)", self._on_measure)
        self._ui.show3DButton.connect("toggled(bool)", self._on_show_3d)

    def refresh(self) -> None:
        """Follow the choices and the results in the scene."""
        for selector in (self._ui.equivariantOutputSelector, self._ui.baselineOutputSelector):
            selector.enabled = not self._desk.running
        results = self._results()
        self._show_volumes(results)
        edited = [title for title, node in results.items() if is_out_of_date(node)]
        notes = [self._of_other_volumes(list(results.values()))]
        if edited:
            notes.append(
                _("Out of date: {networks} was edited after its volumes were measured.").format(
                    networks=_(" and ").join(edited)
                )
            )
        self._ui.volumesNote.text = " ".join(filter(None, notes))
        self._ui.volumesNote.setVisible(any(notes))
        self._ui.measureButton.setVisible(bool(edited))
        self._ui.show3DButton.enabled = bool(results)
        self._follow_surfaces(list(results.values()))

    def targets(self, bundles: Sequence[Bundle]) -> list[Target]:
        """Where the result of each network is to go."""
        parameters = self._desk.parameters
        outputs = {True: parameters.baselineOutput, False: parameters.equivariantOutput}
        return [Target(bundle, outputs[bundle.is_baseline]) for bundle in bundles]

    def obstacle(self, bundles: Sequence[Bundle]) -> str:
        """Why the results cannot go where they are to go, empty if they can."""
        outputs = [target.output for target in self.targets(bundles) if target.output is not None]
        if len(outputs) == 2 and outputs[0] is outputs[1]:
            return _("Both results would go into {name}; choose another output for one of them.").format(
                name=outputs[0].GetName()
            )
        return ""

    def may_replace(self, bundles: Sequence[Bundle]) -> bool:
        """Ask whether the segmentations that are in the way may be replaced, if there are any."""
        names = [target.output.GetName() for target in self.targets(bundles) if target.output is not None]
        return not names or slicer.util.confirmOkCancelDisplay(
            _("All segments of {names} will be replaced by the new result.").format(names=_(" and ").join(names)),
            windowTitle=_("Replace segmentation"),
        )

    def show(self, results: Sequence[Result]) -> None:
        """The results of a run are in the scene."""
        parameters = self._desk.parameters
        self._show_surfaces([result.node for result in results], parameters.show3D)
        with slicer.util.NodeModify(parameters.parameterNode):
            for result in results:
                if result.bundle.is_baseline:
                    parameters.baselineResult = parameters.baselineSegmentation = result.node
                else:
                    parameters.equivariantResult = parameters.equivariantSegmentation = result.node
        self._desk.changed()

    def _results(self) -> dict[str, Any]:
        """The latest result of each network that has one, by the network's title."""
        parameters = self._desk.parameters
        if parameters is None:
            return {}
        found = {_("Equivariant"): parameters.equivariantResult, _("Baseline"): parameters.baselineResult}
        return {title: node for title, node in found.items() if node is not None}

    def _of_other_volumes(self, nodes: Sequence[Any]) -> str:
        """A note of results that are not of the volume chosen in Input or, with none chosen, not of the same one."""
        if not nodes:
            return ""
        chosen = next(iter(self._desk.parameters.inputVolumes), None)
        others = [node.GetName() for node in nodes if reference_volume(node) is not chosen]
        if chosen is not None and others:
            return _("Not of the volume chosen in Input: {results}.").format(results=", ".join(others))
        if any(reference_volume(node) is not reference_volume(nodes[0]) for node in nodes):
            return _("The results are of different volumes.")
        return ""

    def _show_volumes(self, results: Mapping[str, Any]) -> None:
        """One row per segment, one column per network, in millilitres."""
        table = self._ui.volumesTable
        columns = [json.loads(node.GetAttribute(VOLUMES_ML) or "{}") for node in results.values()]
        names = list(dict.fromkeys(name for column in columns for name in column))
        table.setRowCount(len(names))
        table.setColumnCount(len(columns))
        table.setVerticalHeaderLabels([_("{segment} (ml)").format(segment=name) for name in names])
        table.setHorizontalHeaderLabels(list(results))
        for number, node in enumerate(results.values()):
            table.horizontalHeaderItem(number).setToolTip(node.GetName())
        for number, column in enumerate(columns):
            for row, name in enumerate(names):
                table.setItem(row, number, qt.QTableWidgetItem(f"{column[name]:.2f}" if name in column else ""))

    def _on_measure(self, _checked: bool = False) -> None:
        for node in filter(is_out_of_date, self._results().values()):
            try:
                node.SetAttribute(VOLUMES_ML, json.dumps(volumes_ml(node)))
            except SegmentationError as error:
                slicer.util.errorDisplay(str(error))
                return
            mark_up_to_date(node, [node])
        self._desk.changed()

    def _on_show_3d(self, visible: bool) -> None:
        self._show_surfaces(list(self._results().values()), visible)
        self._desk.changed_soon()

    def _follow_surfaces(self, nodes: Sequence[slicer.vtkMRMLSegmentationNode]) -> None:
        """Show the button as pressed if surfaces are shown: other modules show and hide them, too."""
        self._watch.watch(nodes)
        shown = any(map(has_surfaces_shown, nodes))
        if nodes and self._desk.parameters.show3D != shown:
            was_blocked = self._ui.show3DButton.blockSignals(True)
            self._ui.show3DButton.checked = shown
            self._ui.show3DButton.blockSignals(was_blocked)
            self._desk.parameters.show3D = shown

    def _show_surfaces(self, nodes: Sequence[slicer.vtkMRMLSegmentationNode], visible: bool) -> None:
        """Show results in the 3D views, or no longer; side by side they have surfaces whatever is chosen here."""
        show_as_before(slicer.mrmlScene)  # the refresh that follows arranges it anew
        show_closed_surfaces(nodes, visible)
