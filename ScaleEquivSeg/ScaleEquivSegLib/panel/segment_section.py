"""The section Segment: start and cancel a run, watch it, and say how to compute."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from ..requirements import unmet
from .desk import Desk
from .input_section import InputSection
from .network_section import NetworkSection
from .packages import Packages
from .result_section import ResultSection
from .segmenting import Segmenting
from .showing import show_choices
from .worker_process import Message


class SegmentSection:
    """Segment can be pressed when it can run; the status line says why it cannot, or what became of the last run."""

    def __init__(
        self,
        desk: Desk,
        inputs: InputSection,
        networks: NetworkSection,
        results: ResultSection,
        packages: Packages,
    ) -> None:
        self._desk = desk
        self._ui = desk.ui
        self._inputs = inputs
        self._networks = networks
        self._results = results
        self._packages = packages
        self._devices = {"auto": _("Auto"), "cpu": _("CPU")}
        self._ui.progressBar.hide()
        self._ui.deviceSelector.connect("currentIndexChanged(int)", self._on_device)
        self._ui.advancedBox.connect("toggled(bool)", self._on_advanced)
        self._ui.segmentButton.connect("clicked(bool)", self._on_segment)
        self._ui.cancelButton.connect("clicked(bool)", self._on_cancel)

    def refresh(self) -> None:
        """Enable what can be done and say why the rest cannot."""
        obstacle, running = self._obstacle(), self._desk.running
        self._ui.segmentButton.enabled = not running and not obstacle
        self._ui.segmentButton.toolTip = (
            self._desk.busy or obstacle or _("Segment the volume with the chosen networks.")
        )
        self._ui.cancelButton.enabled = running
        if self._desk.parameters is None:
            return
        self._show_devices()
        if not running and not self._packages.installing:
            self._ui.statusLabel.text = " ".join(text for text in (self._desk.outcome, obstacle) if text)

    def cannot_compute(self) -> str:
        """Why the chosen networks cannot run on what is chosen in Input, empty if they can."""
        if self._desk.parameters is None:
            return _("The scene is being closed.")
        if self._packages.installing:
            return self._packages.obstacle()
        if not self._desk.models.bundles:
            return _("There is no model that can be used; see More models.")
        if not self._networks.chosen:
            return _("No model for this task and network.")
        return self._inputs.obstacle()

    def _obstacle(self) -> str:
        """Why Segment cannot be pressed, empty if it can."""
        return self.cannot_compute() or self._results.obstacle(self._networks.chosen)

    # Devices

    def _show_devices(self) -> None:
        chosen = self._desk.parameters.device
        titles = self._device_titles()
        show_choices(self._ui.deviceSelector, list(titles.values()), titles[chosen])

    def _device_titles(self) -> dict[str, str]:
        """What can be chosen, and what is chosen though it was not found."""
        chosen = self._desk.parameters.device
        unknown = {} if chosen in self._devices else {chosen: _("{name} (not found so far)").format(name=chosen)}
        return self._devices | unknown

    def _on_device(self, index: int) -> None:
        if self._desk.parameters is not None and index >= 0:
            self._desk.parameters.device = list(self._device_titles())[index]

    def _on_advanced(self, shown: bool) -> None:
        if shown and not unmet():  # nobody else knows of the GPUs
            self._desk.ask("devices", self._on_devices)

    def _on_devices(self, reply: Message) -> None:
        ours = {"auto": _("Auto"), "mps": _("MPS (Apple GPU)"), "cpu": _("CPU")}
        found = {device["name"]: device["label"] for device in reply["devices"]}
        self._devices = {name: ours.get(name, f"{name}: {label}") for name, label in found.items()}
        self._desk.changed()

    # Run

    def _on_segment(self, _checked: bool = False) -> None:
        if not self._networks.look_again():
            return  # others were taken instead, which the panel says now
        lacked, ready = bool(unmet()), self._packages.ready()
        if lacked and ready:
            self._on_advanced(not self._ui.advancedBox.collapsed)  # when it was opened nobody could be asked
        if ready and not self._obstacle() and self._results.may_replace(self._networks.chosen):
            targets = self._results.targets(self._networks.chosen)
            self._desk.run(
                Segmenting(self._inputs.volumes, self._inputs.region, targets, self.settings, self._results.show)
            )

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
