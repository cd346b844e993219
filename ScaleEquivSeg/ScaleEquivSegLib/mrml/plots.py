"""A table's columns as a chart, and the view that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import slicer

from .layouts import PLOT_LAYOUT, PLOT_VIEW, is_shown, no_views, show_layout
from .products import product

_COLORS = ((0.0, 0.447, 0.698), (0.835, 0.369, 0.0), (0.0, 0.620, 0.451), (0.8, 0.475, 0.655))
"""Told apart by the colour-blind, too (Okabe and Ito)."""
_MARKERS = (
    slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle,
    slicer.vtkMRMLPlotSeriesNode.MarkerStyleCross,
    slicer.vtkMRMLPlotSeriesNode.MarkerStyleSquare,
    slicer.vtkMRMLPlotSeriesNode.MarkerStylePlus,
    slicer.vtkMRMLPlotSeriesNode.MarkerStyleDiamond,
)
"""Slicer's legend shows them, but no dashes."""


@dataclass(frozen=True)
class Curve:
    """A column to draw with a marker of its own; curves of one group have one colour, a second one in the group is
    dashed."""

    column: str
    group: int
    dashed: bool = False


def fill_chart(
    chart: slicer.vtkMRMLPlotChartNode, table: slicer.vtkMRMLTableNode, x_column: str, curves: Sequence[Curve]
) -> None:
    """Draw columns of a table over another one; the names of the columns are the legend."""
    series = [
        _series(chart, table, x_column, curve, marker) for curve, marker in zip(curves, cycle(_MARKERS), strict=False)
    ]
    dropped = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    chart.RemoveAllPlotSeriesNodeIDs()
    for node in series:
        chart.AddAndObservePlotSeriesNodeID(node.GetID())
    for node in dropped:
        if node is not None and node not in series:
            node.GetScene().RemoveNode(node)
    chart.SetXAxisTitle(x_column)
    chart.SetLegendVisibility(True)


def _series(
    chart: slicer.vtkMRMLPlotChartNode, table: slicer.vtkMRMLTableNode, x_column: str, curve: Curve, marker: int
) -> slicer.vtkMRMLPlotSeriesNode:
    node = product("vtkMRMLPlotSeriesNode", f"curve {curve.column}", [chart, table], curve.column)
    node.SetAndObserveTableNodeID(table.GetID())
    node.SetXColumnName(x_column)
    node.SetYColumnName(curve.column)
    node.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    node.SetColor(*_COLORS[curve.group % len(_COLORS)])
    solid, dash = slicer.vtkMRMLPlotSeriesNode.LineStyleSolid, slicer.vtkMRMLPlotSeriesNode.LineStyleDash
    node.SetLineStyle(dash if curve.dashed else solid)
    node.SetMarkerStyle(marker)
    node.SetMarkerSize(10)
    node.SetLineWidth(2)
    return node


def shown_chart(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLPlotChartNode | None:
    """The chart that is shown below the slices, None if there is none, or no such view."""
    view = scene.GetSingletonNode(PLOT_VIEW, "vtkMRMLPlotViewNode")
    return view.GetPlotChartNode() if view is not None and is_shown(PLOT_LAYOUT) else None


def show_chart(chart: slicer.vtkMRMLPlotChartNode) -> None:
    """Show a chart below the slices, if there are views; what other plot views show stays there."""
    if no_views():
        return
    show_layout(PLOT_LAYOUT)
    view = chart.GetScene().GetSingletonNode(PLOT_VIEW, "vtkMRMLPlotViewNode")
    view.SetDoPropagatePlotChartSelection(False)
    view.SetPlotChartNodeID(chart.GetID())
