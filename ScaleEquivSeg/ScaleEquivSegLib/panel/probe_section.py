"""The section Scale probe: what the chosen networks find when the anatomy is smaller or larger."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..errors import SegmentationError
from ..mrml.layouts import PLOT_LAYOUT, is_shown, leave_layout, no_views
from ..mrml.plots import show_chart, shown_chart
from ..mrml.products import earlier_product, is_out_of_date
from ..mrml.tables import write_table
from ..scaling import geometric_scales
from .desk import Desk
from .input_section import InputSection
from .network_section import NetworkSection
from .packages import Packages
from .probing import CHART, TABLE, Probed, Probing
from .segment_section import SegmentSection
from .starter import Starter

NOT_IN_FILE_NAMES = re.compile(r'[\\/:*?"<>|]+')
"""On one system or another."""


class ProbeSection:
    """Runs what is chosen in Input and Network as Segment would, at several scales."""

    def __init__(
        self,
        desk: Desk,
        inputs: InputSection,
        networks: NetworkSection,
        segment: SegmentSection,
        packages: Packages,
    ) -> None:
        self._desk = desk
        self._ui = desk.ui
        self._inputs = inputs
        self._networks = networks
        self._segment = segment
        self._packages = packages
        self._starter = Starter(desk, self._ui.probeButton, self._ui.probeStatusLabel, self._probing)
        self._plot_tip, self._export_tip = self._ui.showPlotButton.toolTip, self._ui.exportTableButton.toolTip
        self._ui.showPlotButton.connect("clicked(bool)", self._on_show_plot)
        self._ui.exportTableButton.connect("clicked(bool)", self._on_export)

    def refresh(self) -> None:
        """Enable what can be done and say why the rest cannot."""
        self._starter.refresh(self._segment.cannot_compute())
        chart, table, shown = self._made(CHART), self._made(TABLE), is_shown(PLOT_LAYOUT)
        if shown and chart is not None and shown_chart(slicer.mrmlScene) is not chart:
            show_chart(chart)  # another one was chosen meanwhile
        unprobed = _("Probe the scales of what is chosen first.")
        unshown = no_views() or ("" if shown or chart is not None else unprobed)
        self._ui.showPlotButton.checked = shown
        self._ui.showPlotButton.enabled = not unshown
        self._ui.showPlotButton.toolTip = unshown or self._plot_tip
        self._ui.exportTableButton.enabled = table is not None
        self._ui.exportTableButton.toolTip = unprobed if table is None else self._export_tip
        self._ui.probeNote.setVisible(table is not None and is_out_of_date(table))

    def _probed(self) -> Probed | None:
        """What is chosen, None if something is missing."""
        if self._segment.cannot_compute():
            return None
        return Probed(self._inputs.volumes, self._desk.parameters.reference, self._inputs.region)

    def _made(self, kind: str) -> Any:
        probed = self._probed()
        return None if probed is None else earlier_product(kind, probed.nodes)

    def _probing(self) -> Probing | None:
        if not self._networks.look_again():
            return None  # others were taken instead, which the panel says now
        # First, as installing takes long, and much can change meanwhile.
        ready = self._packages.ready(self._ui.probeStatusLabel)
        probed, parameters = self._probed(), self._desk.parameters
        if not ready or probed is None:
            return None
        scales = geometric_scales(parameters.probeFrom, parameters.probeTo, parameters.probeSteps)
        return Probing(probed, self._networks.chosen, scales, self._segment.settings, show_chart)

    def _on_show_plot(self, checked: bool) -> None:
        if checked:
            show_chart(self._made(CHART))
        else:
            leave_layout(PLOT_LAYOUT)
        self._desk.changed()

    def _on_export(self, _checked: bool = False) -> None:
        table = self._made(TABLE)
        title = _("Export table")
        suggested = Path.home() / f"{NOT_IN_FILE_NAMES.sub('-', table.GetName())}.csv"
        window, kinds = slicer.util.mainWindow(), _("CSV files (*.csv)")
        chosen = qt.QFileDialog.getSaveFileName(window, title, str(suggested), kinds)
        if not chosen:
            return
        path = Path(chosen) if chosen.lower().endswith(".csv") else Path(f"{chosen}.csv")
        is_asked = path == Path(chosen)  # by the dialog itself, of the name that it knows
        if (
            path.exists()
            and not is_asked
            and not slicer.util.confirmYesNoDisplay(_("Replace {path}?").format(path=path))
        ):
            return
        try:
            write_table(table, path)
        except SegmentationError as error:
            slicer.util.errorDisplay(str(error))
