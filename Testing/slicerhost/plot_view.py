"""A chart node drawn by VTK's charts, off screen, with the properties that Slicer's plot view takes from it."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

_Series = slicer.vtkMRMLPlotSeriesNode
_LINES = {
    _Series.LineStyleNone: vtk.vtkPen.NO_PEN,
    _Series.LineStyleSolid: vtk.vtkPen.SOLID_LINE,
    _Series.LineStyleDash: vtk.vtkPen.DASH_LINE,
    _Series.LineStyleDot: vtk.vtkPen.DOT_LINE,
    _Series.LineStyleDashDot: vtk.vtkPen.DASH_DOT_LINE,
    _Series.LineStyleDashDotDot: vtk.vtkPen.DASH_DOT_DOT_LINE,
}
_MARKERS = {
    _Series.MarkerStyleNone: vtk.vtkPlotPoints.NONE,
    _Series.MarkerStyleCross: vtk.vtkPlotPoints.CROSS,
    _Series.MarkerStylePlus: vtk.vtkPlotPoints.PLUS,
    _Series.MarkerStyleSquare: vtk.vtkPlotPoints.SQUARE,
    _Series.MarkerStyleCircle: vtk.vtkPlotPoints.CIRCLE,
    _Series.MarkerStyleDiamond: vtk.vtkPlotPoints.DIAMOND,
}


def draw_chart(node: Any, width: int, height: int) -> tuple[Any, Any]:
    """The render window of a chart, to be rendered and grabbed, and the view that keeps it alive."""
    view = vtk.vtkContextView()
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetSize(width, height)
    view.SetRenderWindow(window)
    view.GetRenderer().SetBackground(1.0, 0.99, 0.96)
    if node is not None:
        view.GetScene().AddItem(_chart(node))
    return window, view


def _chart(node: Any) -> Any:
    chart = vtk.vtkChartXY()
    for number in range(node.GetNumberOfPlotSeriesNodes()):
        plot = _plot(node.GetNthPlotSeriesNode(number))
        if plot is not None:
            chart.AddPlot(plot)
    chart.SetTitle(node.GetTitle() if node.GetTitleVisibility() and node.GetTitle() else "")
    chart.GetTitleProperties().SetFontSize(node.GetTitleFontSize())
    chart.SetShowLegend(node.GetLegendVisibility())
    chart.GetLegend().GetLabelProperties().SetFontSize(node.GetLegendFontSize())
    for place, letter in ((vtk.vtkAxis.BOTTOM, "X"), (vtk.vtkAxis.LEFT, "Y")):
        _set_up_axis(chart.GetAxis(place), node, letter)
    return chart


def _set_up_axis(axis: Any, node: Any, letter: str) -> None:
    def setting(name: str) -> Any:
        return getattr(node, f"Get{letter}Axis{name}")()

    axis.SetTitle(setting("Title") if setting("TitleVisibility") and setting("Title") else "")
    axis.GetTitleProperties().SetFontSize(node.GetAxisTitleFontSize())
    axis.GetLabelProperties().SetFontSize(node.GetAxisLabelFontSize())
    axis.SetLogScale(setting("LogScale"))
    axis.SetGridVisible(node.GetGridVisibility())
    if not setting("RangeAuto"):
        axis.SetBehavior(vtk.vtkAxis.FIXED)
        axis.SetRange(*setting("Range"))


def _plot(series: Any) -> Any:
    """The line of a series, None for one that Slicer would not draw either."""
    table = series.GetTableNode().GetTable() if series.GetTableNode() is not None else None
    if series.GetPlotType() != _Series.PlotTypeScatter:
        raise NotImplementedError("the stand-in host draws scatter plots only")
    x, y = series.GetXColumnName(), series.GetYColumnName()
    columns = [table.GetColumnByName(name) for name in (x, y)] if table is not None else [None]
    if any(column is None or isinstance(column, vtk.vtkStringArray) for column in columns):
        return None
    plot = vtk.vtkPlotLine()
    plot.SetInputData(table, x, y)
    plot.SetLabel(series.GetName())
    plot.SetColorF(*series.GetColor())
    plot.SetWidth(series.GetLineWidth())
    plot.GetPen().SetLineType(_LINES[series.GetLineStyle()])
    plot.SetMarkerStyle(_MARKERS[series.GetMarkerStyle()])
    plot.SetMarkerSize(series.GetMarkerSize())
    return plot
