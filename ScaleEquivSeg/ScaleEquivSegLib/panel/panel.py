"""The panel: what its controls offer, when they can be used, and what happens on a click."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from ..bundles import Bundle, bundled_models, find_bundles
from ..mrml import reference_volume, show_closed_surfaces, show_side_by_side
from .parameters import NetworkChoice
from .run import Finished, Run
from .worker_process import Message, WorkerProcess

CANCEL_PATIENCE_MS = 1500
LOG_LINES = 1000


class Panel:
    """Connects the widgets of the `.ui` file to the parameters, the worker and the scene."""

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self._parameters: Any = None
        self._gui_tag: Any = None
        found, self._refused = find_bundles([bundled_models()])
        self._bundles = [bundle for bundle in found if bundle.kind == "segmentation"]
        self.worker = WorkerProcess(self._on_message, self._log, self._on_worker_end, parent=ui.logText)
        self._run: Run | None = None
        self._outcome = ""

        ui.logText.setMaximumBlockCount(LOG_LINES)
        ui.volumesTable.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        ui.progressBar.hide()
        for task in sorted({bundle.task for bundle in self._bundles}):
            ui.taskSelector.addItem(task)
        for bad in self._refused:
            self._log(f"{bad.folder.name} refused: {bad.reason}")
        ui.taskSelector.connect("currentTextChanged(QString)", self._on_task)
        ui.segmentButton.connect("clicked(bool)", self._on_segment)
        ui.cancelButton.connect("clicked(bool)", self._on_cancel)
        ui.sideBySideButton.connect("clicked(bool)", self._on_side_by_side)
        ui.show3DButton.connect("toggled(bool)", self._on_show_3d)
        self.refresh()

    # Parameters

    def bind(self, parameters: Any) -> None:
        """Show and change the choices of a `ScaleEquivSegParameterNode`, or of none."""
        if self._parameters is not None:
            self._parameters.disconnectGui(self._gui_tag)
        self._parameters = parameters
        if parameters is not None:
            self._gui_tag = parameters.connectParametersToGui(self._widgets_by_parameter())
            if self.ui.taskSelector.findText(parameters.task) < 0:
                parameters.task = self.ui.taskSelector.currentText
            self.ui.taskSelector.currentText = parameters.task
        self.refresh()

    def _widgets_by_parameter(self) -> dict[str, Any]:
        # Slicer's connectGui does the same, but returns no tag to disconnect by.
        named = ((widget.property("SlicerParameterName"), widget) for widget in vars(self.ui).values())
        return {name: widget for name, widget in named if name}

    def _on_task(self, task: str) -> None:
        if self._parameters is not None:
            self._parameters.task = task
        self.refresh()

    # What can be done now

    def refresh(self) -> None:
        """Enable what can be done and say why the rest cannot."""
        obstacle = self._obstacle()
        running = self._run is not None
        self.ui.segmentButton.enabled = not running and not obstacle
        self.ui.segmentButton.toolTip = obstacle or _("Segment the volume with the chosen networks.")
        self.ui.cancelButton.enabled = running
        for section in (self.ui.inputSection, self.ui.networkSection):
            section.enabled = not running
        both = self._compared_volume() is not None
        self.ui.sideBySideButton.enabled = both
        self.ui.sideBySideButton.toolTip = (
            _("One network in each view, linked.") if both else _("Segment one volume with both networks first.")
        )
        self.ui.show3DButton.enabled = any(self._results())
        if not running and self._parameters is not None:
            self.ui.statusLabel.text = " ".join(text for text in (self._outcome, obstacle) if text)

    def _obstacle(self) -> str:
        """Why Segment cannot be pressed, empty if it can."""
        if self._parameters is None:
            return _("The scene is being closed.")
        if not self._chosen_bundles():
            return _("No model for this task and network.")
        return _obstacle_of(self._parameters.inputVolume)

    def _chosen_bundles(self) -> list[Bundle]:
        if self._parameters is None:
            return []
        choice = self._parameters.network
        return [
            bundle
            for bundle in self._bundles
            if bundle.task == self._parameters.task
            and (choice is not NetworkChoice.BASELINE or bundle.is_baseline)
            and (choice is not NetworkChoice.EQUIVARIANT or not bundle.is_baseline)
        ]

    def _results(self) -> tuple[Any, Any]:
        """The latest equivariant and baseline segmentation, each None if there is none."""
        if self._parameters is None:
            return None, None
        return self._parameters.equivariantSegmentation, self._parameters.baselineSegmentation

    def _compared_volume(self) -> Any:
        """The volume that both results belong to, None if there is no such pair."""
        volumes = [reference_volume(node) for node in self._results() if node is not None]
        return volumes[0] if len(volumes) == 2 and volumes[0] is volumes[1] else None

    # A run

    def _on_segment(self, _checked: bool = False) -> None:
        assert self._parameters is not None
        self._outcome = ""
        self._run = Run(
            self.worker,
            self._parameters.inputVolume,
            self._chosen_bundles(),
            self._parameters.device.value,
            self._on_progress,
            self._on_finished,
            self._on_failed,
        )
        self.ui.progressBar.value = 0
        self.ui.progressBar.show()
        self.refresh()
        self._run.start()

    def _on_cancel(self, _checked: bool = False) -> None:
        if self._run is None:
            return
        run = self._run
        run.cancel()
        self.ui.statusLabel.text = _("Cancelling…")
        qt.QTimer.singleShot(CANCEL_PATIENCE_MS, lambda: self._insist_on_cancel(run))

    def _insist_on_cancel(self, run: Run) -> None:
        if self._run is run:
            self.stop(_("Cancelled."))

    def stop(self, reason: str) -> None:
        """End a run and the worker at once: the scene or the application closes, or the worker doesn't listen."""
        self.worker.stop()
        if self._run is not None:
            self._run.abort(reason)

    def _on_message(self, message: Message) -> None:
        if self._run is not None:
            self._run.receive(message)

    def _on_worker_end(self, reason: str) -> None:
        if self._run is not None:
            last = self.ui.logText.toPlainText().strip().splitlines()[-1:]
            self._run.abort(" ".join([reason, *last]))

    def _on_progress(self, phase: str, fraction: float) -> None:
        self.ui.progressBar.value = round(100 * fraction)
        self.ui.statusLabel.text = phase

    def _on_failed(self, reason: str) -> None:
        self._end_run(reason)
        self._log(reason)

    def _on_finished(self, results: list[Finished]) -> None:
        assert self._parameters is not None
        for result in results:
            if result.bundle.is_baseline:
                self._parameters.baselineSegmentation = result.node
            else:
                self._parameters.equivariantSegmentation = result.node
        self._show_volumes(results)
        self._on_show_3d(self.ui.show3DButton.checked)
        self._end_run(" ".join([_("Done."), *(text for result in results for text in result.warnings)]))

    def _end_run(self, status: str) -> None:
        self._run = None
        self._outcome = status
        self.ui.progressBar.hide()
        self.refresh()

    # Results

    def _show_volumes(self, results: Sequence[Finished]) -> None:
        """One row per segment, one column per network, in millilitres."""
        table = self.ui.volumesTable
        names = list(results[0].ml)
        table.setRowCount(len(names))
        table.setColumnCount(len(results))
        table.setVerticalHeaderLabels([_("{segment} (ml)").format(segment=name) for name in names])
        table.setHorizontalHeaderLabels([_("Baseline") if r.bundle.is_baseline else _("Equivariant") for r in results])
        for column, result in enumerate(results):
            for row, name in enumerate(names):
                table.setItem(row, column, qt.QTableWidgetItem(f"{result.ml[name]:.2f}"))

    def _on_show_3d(self, visible: bool) -> None:
        show_closed_surfaces([node for node in self._results() if node is not None], visible)

    def _on_side_by_side(self, _checked: bool = False) -> None:
        equivariant, baseline = self._results()
        show_side_by_side(self._compared_volume(), [(_("Equivariant"), equivariant), (_("Baseline"), baseline)])

    def _log(self, line: str) -> None:
        self.ui.logText.appendPlainText(line)


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
