"""What Scale probe does: a case through each network at several scales, to a table and a chart of Dice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from ..bundles import Bundle
from ..errors import UnsuitableVolume
from ..labelmap import class_key, segment_header
from ..mrml.contents import Contents, Source, contents_of, edited_since
from ..mrml.labels import FoundLabels, labels_on_grid
from ..mrml.plots import Curve, fill_chart
from ..mrml.products import mark_products_out_of_date, product
from ..mrml.segmentations import reference_notes
from ..mrml.tables import fill_table, keep_origin
from ..volume import Volume, write_volume
from .job import Reply, Request
from .segmenting import region_values, times_beside_each_other, written_volumes

TABLE, CHART = "scale probe", "scale probe chart"
"""What is made of the volumes, as `mrml.products` knows it."""
ROOM_PER_CURVE = 0.08
"""Above the curves, for the legend."""


@dataclass(frozen=True)
class Probed:
    """A case, and perhaps a reference for it and a region of it."""

    volumes: Sequence[slicer.vtkMRMLScalarVolumeNode]
    reference: slicer.vtkMRMLSegmentationNode | None
    region: slicer.vtkMRMLMarkupsROINode | None

    @property
    def nodes(self) -> list[Source]:
        """All that there are."""
        return [*self.volumes, *(node for node in (self.reference, self.region) if node is not None)]

    @property
    def name(self) -> str:
        """What to call it."""
        volume = self.volumes[0].GetName()
        if self.region is None:
            return volume
        return _("{volume} in {region}").format(volume=volume, region=self.region.GetName())


class Probing:
    """Magnifies a case, segments it with several bundles and compares with what they find in it as it is.

    `show` gets the chart when it is in the scene.
    """

    def __init__(
        self,
        probed: Probed,
        bundles: Sequence[Bundle],
        scales: Sequence[float],
        settings: Mapping[str, Any],
        show: Callable[[slicer.vtkMRMLPlotChartNode], None],
    ) -> None:
        self.nodes: Sequence[slicer.vtkMRMLNode] = probed.nodes
        self._probed = probed
        self._bundles = bundles
        self._scales = scales
        self._settings = settings
        self._show = show
        self._contents: dict[Source, Contents] = {}

    def requests(self, folder: Path) -> Sequence[Request]:
        """Write the volumes once, the reference as each bundle counts its classes, and ask for a sweep by each."""
        inputs = written_volumes(self._probed.volumes, folder)
        reference, region = self._probed.reference, region_values(self._probed.volumes[0], self._probed.region)
        self._contents = {node: contents_of(node) for node in self._probed.nodes}
        found = None if reference is None else self._labels_of(reference)
        requests = []
        for bundle, time in zip(self._bundles, times_beside_each_other(self._bundles), strict=True):
            content = {
                "type": "sweep",
                "bundle": str(bundle.folder),
                "inputs": inputs,
                "scales": list(self._scales),
                "roi": region,
            }
            if found is not None:
                path = folder / f"{bundle.name}.reference.seg.nrrd"
                labels = _counted_as(bundle, found)
                write_volume(labels, path, compress=False, header=segment_header(bundle.labels, labels.geometry))
                content["reference"] = str(path)
            requests.append(Request(bundle.name, {**content, **self._settings}, time))
        return requests

    def _labels_of(self, reference: slicer.vtkMRMLSegmentationNode) -> FoundLabels:
        found = labels_on_grid(reference, self._probed.volumes[0])
        known = {class_key(name) for name in found.labelmap.names.values()}
        wanted = {class_key(label.name): label.name for bundle in self._bundles for label in bundle.labels}
        absent = [name for key, name in wanted.items() if key not in known]
        if absent:
            raise UnsuitableVolume(
                _("The reference {name} has no segment named {absent}; rename its segments, or choose none.").format(
                    name=reference.GetName(), absent=", ".join(absent)
                )
            )
        return found

    def finish(self, replies: Sequence[Reply]) -> Sequence[str]:
        """Make the table and the chart, or fill those that were made of the same case before."""
        sources = self._probed.nodes
        case = self._probed.name
        columns = _columns(replies)
        table = product("vtkMRMLTableNode", TABLE, sources, _("{case}: Dice by scale").format(case=case))
        scales = [at["scale"] for at in replies[0]["scales"]]
        titles = [_("Scale"), *(title for column in columns for title in column.by_class)]
        values = [scales, *(dices for column in columns for dices in column.by_class.values())]
        fill_table(table, titles, list(zip(*values, strict=True)))
        keep_origin(table, replies)
        chart = product("vtkMRMLPlotChartNode", CHART, sources, _("{case}: scale probe").format(case=case))
        fill_chart(chart, table, titles[0], [column.curve for column in columns])
        chart.SetTitle(chart.GetName())
        chart.SetTitleVisibility(True)
        chart.SetYAxisTitle(_("Dice, mean of all segments"))
        chart.SetYAxisRangeAuto(False)
        chart.SetYAxisRange(0.0, 1.0 + ROOM_PER_CURVE * len(columns))
        for node in edited_since(self._contents):  # while the scales were probed
            mark_products_out_of_date(node)
        self._show(chart)
        return reference_notes(self._probed.reference, self._probed.volumes[0])


@dataclass(frozen=True)
class _Columns:
    """Dice along the scales of one network with one thing, of which the mean is drawn."""

    by_class: Mapping[str, Sequence[float]]
    curve: Curve


def _columns(replies: Sequence[Reply]) -> list[_Columns]:
    columns = []
    for number, reply in enumerate(replies):
        kinds = {"with_itself": _("with itself"), "with_reference": _("with the reference")}
        for dashed, (key, words) in enumerate(kinds.items()):
            if reply["scales"][0][key] is None:
                continue
            title = f"{reply['bundle']} {words}"
            dices = {name: [round(at[key][name], 4) for at in reply["scales"]] for name in reply["scales"][0][key]}
            mean = np.mean(list(dices.values()), axis=0).round(4).tolist()
            by_class = {title: mean, **{f"{title}: {name}": values for name, values in dices.items()}}
            columns.append(_Columns(by_class, Curve(title, number, bool(dashed))))
    return columns


def _counted_as(bundle: Bundle, found: FoundLabels) -> Volume:
    """The labels with the values of a bundle's classes of the same name."""
    values = {class_key(label.name): label.value for label in bundle.labels}
    names = found.labelmap.names
    lookup = np.array([0, *(values.get(class_key(names[value]), 0) for value in sorted(names))], np.uint8)
    return Volume(lookup[found.labelmap.volume.array], found.labelmap.volume.geometry)
