"""Where a layout puts its views: Slicer's XML description as rectangles of a picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from PySide6 import QtCore

_GAP = 2


def arranged(description: str, area: QtCore.QRect) -> Iterator[tuple[str, str, QtCore.QRect]]:
    """The class, name and place of each view; of tabs the first is open."""
    yield from _placed(ElementTree.fromstring(description), area)


def _placed(element: ElementTree.Element, area: QtCore.QRect) -> Iterator[tuple[str, str, QtCore.QRect]]:
    if element.tag == "view":
        yield element.get("class", ""), element.get("singletontag", ""), area
        return
    if element.tag != "layout":
        raise ValueError(f"a layout has items with views and layouts, not <{element.tag}>")
    items = element.findall("item")[: 1 if element.get("type") == "tab" else None]
    cells = [(*_cell(item, number, element.get("type", "horizontal")), item[0]) for number, item in enumerate(items)]
    rows, columns = 1 + max(cell[0] for cell in cells), 1 + max(cell[1] for cell in cells)
    for row, column, content in cells:
        left, top = (
            n * (size + _GAP) // count
            for n, size, count in ((column, area.width(), columns), (row, area.height(), rows))
        )
        place = QtCore.QRect(
            area.left() + left, area.top() + top, _share(area.width(), columns), _share(area.height(), rows)
        )
        yield from _placed(content, place)


def _share(size: int, count: int) -> int:
    return (size - _GAP * (count - 1)) // count


def _cell(item: ElementTree.Element, number: int, kind: str) -> tuple[int, int]:
    """The row and column of an item; an item of a grid says it itself."""
    if kind == "grid":
        return int(item.get("row", 0)), int(item.get("column", 0))
    return (number, 0) if kind == "vertical" else (0, number)
