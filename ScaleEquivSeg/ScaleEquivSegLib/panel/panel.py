"""The panel: its sections, and what they have in common."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from ..mrml.layouts import leave_layouts
from .compare_section import CompareSection
from .desk import Desk
from .edits import Edits
from .folders_box import FoldersBox
from .input_section import InputSection
from .network_section import NetworkSection
from .packages import Packages
from .parameters import forget
from .probe_section import ProbeSection
from .result_section import ResultSection
from .segment_section import SegmentSection
from .showing import reach_by_keys


class Panel:
    """Connects the widgets of the `.ui` file to the choices, the worker and the scene."""

    def __init__(self, ui: Any) -> None:
        self.desk = Desk(ui, self.refresh)
        inputs, networks, results = InputSection(self.desk), NetworkSection(self.desk), ResultSection(self.desk)
        packages = Packages(self.desk)
        segment = SegmentSection(self.desk, inputs, networks, results, packages)
        folders, probe = FoldersBox(self.desk), ProbeSection(self.desk, inputs, networks, segment, packages)
        self._compare = CompareSection(self.desk, packages)
        self._sections = (inputs, networks, folders, segment, results, self._compare, probe, Edits(self.desk))
        self._inputs, self._networks = inputs, networks
        for selector in self._node_selectors():
            reach_by_keys(selector)
        self._gui_tag: Any = None
        # With a parent it ends with the panel.
        self._release = qt.QTimer(ui.logText)
        self._release.setSingleShot(True)
        self._release.connect("timeout()", self._listen_again)
        self.refresh()

    def bind(self, parameters: Any) -> None:
        """Show and change the choices of a `ScaleEquivSegParameterNode`, or of none."""
        if self.desk.parameters is not None:
            self.desk.parameters.disconnectGui(self._gui_tag)
        self.desk.parameters = parameters
        if parameters is not None:
            self._gui_tag = parameters.connectParametersToGui(self._widgets_by_parameter())
        self.refresh()

    def _widgets_by_parameter(self) -> dict[str, Any]:
        # Slicer's connectGui does the same, but returns no tag to disconnect by.
        named = ((widget.property("SlicerParameterName"), widget) for widget in vars(self.desk.ui).values())
        return {name: widget for name, widget in named if name}

    def refresh(self) -> None:
        """Show what is chosen, enable what can be done and say why the rest cannot."""
        if self.desk.parameters is not None and slicer.mrmlScene.IsBatchProcessing():
            return  # selectors know the nodes only when all are there
        for section in self._sections:
            section.refresh()

    def look_again(self) -> None:
        """Look into the folders of models, where something may have changed while another module was open."""
        self._networks.look_again()

    def hold(self) -> None:
        """Hear of no choice: while much is changed in the scene, as by a scene that is added, selectors lose theirs."""
        for selector in self._node_selectors():
            selector.blockSignals(True)

    def release_soon(self) -> None:
        """Let the selectors show the choices again, and hear of them, when they all have taken notice of the change."""
        self._release.start(0)

    def _listen_again(self) -> None:
        if slicer.mrmlScene.IsBatchProcessing():
            return  # it is released when that has ended
        for selector in self._node_selectors():
            selector.blockSignals(False)
        if self.desk.parameters is not None:
            self.desk.parameters.parameterNode.Modified()

    def _node_selectors(self) -> list[Any]:
        of_file = [each for each in vars(self.desk.ui).values() if isinstance(each, slicer.qMRMLNodeComboBox)]
        return [*of_file, *self._inputs.selectors]

    def refresh_soon(self) -> None:
        """The same once for all that happens now."""
        self.desk.changed_soon()

    def leave_layouts(self) -> None:
        """Arrange the views as the user had them."""
        leave_layouts()

    def stop(self, reason: str) -> None:
        """End what runs at once; what became of an earlier run is not to be read for what becomes of the next scene."""
        self.desk.outcome = ""
        self.desk.stop(reason)

    def forget_node(self, node: Any) -> None:
        """A node is about to leave the scene."""
        self.desk.forget_node(node)
        if self.desk.parameters is not None:
            forget(self.desk.parameters, node)

    def close(self) -> None:
        """The panel goes; the scene stays."""
        self._compare.close()
