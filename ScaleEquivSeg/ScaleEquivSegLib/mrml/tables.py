"""Rows of figures as a table node, which Slicer shows, plots and saves; and as a CSV file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import slicer
import vtk

from ..whole_files import write_csv
from .segmentations import ATTRIBUTES

ORIGIN = ("bundle", "bundle_version", "weights_sha256", "input_voxels_sha256")
"""What a table of figures keeps of where they come from: attributes of the node, and columns of the file."""


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


def keep_origin(node: slicer.vtkMRMLTableNode, answers: Sequence[Mapping[str, str]]) -> None:
    """Keep where the figures of a table come from: of each answer in turn, or once what is the same for all."""
    for key in ORIGIN:
        told = [answer[key] for answer in answers]
        node.SetAttribute(f"{ATTRIBUTES}{key}", "; ".join(told if len(set(told)) > 1 else told[:1]))


def write_table(node: slicer.vtkMRMLTableNode, path: Path) -> None:
    """Write a table as CSV, its titles first and where it comes from last."""
    table = node.GetTable()
    columns = [table.GetColumn(n) for n in range(table.GetNumberOfColumns())]
    origin = {key: node.GetAttribute(f"{ATTRIBUTES}{key}") for key in ORIGIN}
    known = {key: told for key, told in origin.items() if told is not None}
    rows = [[*(column.GetValue(row) for column in columns), *known.values()] for row in range(table.GetNumberOfRows())]
    write_csv([[*(column.GetName() for column in columns), *known], *rows], path)
