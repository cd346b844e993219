"""The section Segment: start and cancel a run, watch it, and say how to compute."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from .desk import Desk
from .input_section import InputSection
from .network_section import NetworkSection
from .result_section import ResultSection
from .segmenting import Segmenting

DEVICES = {"auto": "Auto", "cuda": "CUDA", "mps": "MPS", "cpu": "CPU"}


class SegmentSection:
    """Segment can be pressed when it can run; the status line says why it cannot, or what became of the last run."""

    def __init__(self, desk: Desk, inputs: InputSection, networks: NetworkSection, results: ResultSection) -> None:
        self._desk = desk
        self._ui = desk.ui
        self._inputs = inputs
        self._networks = networks
        self._results = results
        self._ui.progressBar.hide()
        for device, title in DEVICES.items():
            self._ui.deviceSelector.addItem(title, device)
        self._ui.deviceSelector.connect("currentIndexChanged(int)", self._on_device)
        for bad in desk.models.refused:
            desk.log(f"{bad.folder.name} refused: {bad.reason}")
        self._ui.segmentButton.connect("clicked(bool)", self._on_segment)
        self._ui.cancelButton.connect("clicked(bool)", self._on_cancel)

    def refresh(self) -> None:
        """Enable what can be done and say why the rest cannot."""
        obstacle, running = self._obstacle(), self._desk.running
        self._ui.segmentButton.enabled = not running and not obstacle
        self._ui.segmentButton.toolTip = obstacle or _("Segment the volume with the chosen networks.")
        self._ui.cancelButton.enabled = running
        if self._desk.parameters is not None:
            self._ui.deviceSelector.setCurrentIndex(list(DEVICES).index(self._desk.parameters.device))
        if not running and self._desk.parameters is not None:
            self._ui.statusLabel.text = " ".join(text for text in (self._desk.outcome, obstacle) if text)

    def _obstacle(self) -> str:
        """Why Segment cannot be pressed, empty if it can."""
        if self._desk.parameters is None:
            return _("The scene is being closed.")
        if not self._networks.chosen:
            return _("No model for this task and network.")
        return self._inputs.obstacle()

    def _on_device(self, index: int) -> None:
        if self._desk.parameters is not None:
            self._desk.parameters.device = list(DEVICES)[index]

    def _on_segment(self, _checked: bool = False) -> None:
        self._desk.run(Segmenting(self._inputs.volumes, self._networks.chosen, self.settings, self._results.show))

    @property
    def settings(self) -> dict[str, Any]:
        """How to compute, as the worker takes it."""
        parameters = self._desk.parameters
        return {
            "device": parameters.device,
            "precision": parameters.precision.value,
            "slab": parameters.planesAtOnce or None,
            "mirror": parameters.mirror,
            "replace_nonfinite": parameters.replaceNonfinite,
        }

    def _on_cancel(self, _checked: bool = False) -> None:
        self._desk.cancel()
