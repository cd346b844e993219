"""Rows of figures as a table node, which Slicer shows, plots and saves; and as a CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import slicer
import vtk

from ..whole_files import write_csv


def fill_table(node: slicer.vtkMRMLTableNode, titles: Sequence[str], rows: Sequence[Sequence[str | float]]) -> None:
    """Put rows into a table in place of what it holds; a column is of texts or of numbers, as in the first row."""
    was_modifying = node.StartModify()
    node.SetLocked(False)
    node.RemoveAllColumns()
    for title, values in zip(titles, zip(*rows, strict=True), strict=True):
        column = vtk.vtkStringArray() if isinstance(values[0], str) else vtk.vtkDoubleArray()
        column.SetName(title)
        for value in values:
            column.InsertNextValue(value)
        node.AddColumn(column)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)
    node.EndModify(was_modifying)


def write_table(node: slicer.vtkMRMLTableNode, path: Path) -> None:
    """Write a table as CSV, its titles first."""
    table = node.GetTable()
    columns = [table.GetColumn(n) for n in range(table.GetNumberOfColumns())]
    rows = [[column.GetValue(row) for column in columns] for row in range(table.GetNumberOfRows())]
    write_csv([[column.GetName() for column in columns], *rows], path)
