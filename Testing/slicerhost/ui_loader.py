"""Loads Designer's `.ui` files as Slicer does, from Qt's classes and the registry of stand-ins.
Everything a file names must exist: classes, properties, and both ends of each connection."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import ctk_widgets, mrml_widgets
from .pythonqt import connect, members, resolve_signal, resolve_slot

REGISTRY: dict[str, type] = {**ctk_widgets.WIDGETS, **mrml_widgets.WIDGETS}

# Designer writes these for every layout; they are contents margins rather than Qt properties.
_LAYOUT_PSEUDO_PROPERTIES = {"leftMargin", "topMargin", "rightMargin", "bottomMargin", "margin"}
_LAYOUT_PSEUDO_PROPERTIES |= {"horizontalSpacing", "verticalSpacing", "spacing", "fieldGrowthPolicy"}


class UiError(RuntimeError):
    """A `.ui` file names something that Slicer would not find."""


class _Loader(QtUiTools.QUiLoader):
    def createWidget(self, class_name: str, parent: QtWidgets.QWidget | None = None, name: str = "") -> Any:
        if class_name not in REGISTRY:
            return super().createWidget(class_name, parent, name)
        widget = REGISTRY[class_name](parent)
        widget.setObjectName(name)
        return widget


def load_ui(path: str | Path) -> QtWidgets.QWidget:
    """The top widget of the file, its connections made."""
    root = ElementTree.parse(path).getroot()
    for element in root.iter():
        if element.tag in ("widget", "layout"):
            _check_element(element)
    connections = root.find("connections")
    if connections is not None:
        # Qt's own loader knows no signal with a MRML argument: they are connected below.
        root.remove(connections)
    buffer = QtCore.QBuffer()
    buffer.setData(ElementTree.tostring(root, encoding="utf-8"))
    buffer.open(QtCore.QIODevice.ReadOnly)
    loader = _Loader()
    # Relative icons and style sheets are relative to the file.
    loader.setWorkingDirectory(QtCore.QDir(str(Path(path).parent)))
    top = loader.load(buffer)
    if top is None:
        raise UiError(f"{path}: {loader.errorString()}")
    for buddy in root.iterfind(".//property[@name='buddy']/cstring"):
        if top.findChild(QtWidgets.QWidget, buddy.text) is None:
            raise UiError(f"buddy: no object '{buddy.text}'")
    for connection in connections if connections is not None else ():
        _make_connection(top, connection)
    return top


def _check_element(element: ElementTree.Element) -> None:
    class_name = element.get("class", "")
    if class_name in ("Line", "Spacer"):
        return
    cls = REGISTRY.get(class_name) or getattr(QtWidgets, class_name, None)
    label = f"{class_name} '{element.get('name', '')}'"
    if cls is None:
        raise UiError(f"unknown widget class {label}")
    known = set(members(cls).properties)
    if element.tag == "layout":
        known |= _LAYOUT_PSEUDO_PROPERTIES
    if class_name == "QLabel":
        known.add("buddy")  # Designer's name for the widget that the label's shortcut goes to
    for item in element.findall("property"):
        name = item.get("name", "")
        # stdset="0" on a name Qt does not know makes a dynamic property, as SlicerParameterName is.
        if item.get("stdset") != "0" and name not in known:
            raise UiError(f"unknown property '{name}' of {label}")


def _make_connection(top: QtWidgets.QWidget, connection: ElementTree.Element) -> None:
    sender, signal, receiver, slot = (connection.findtext(tag, "") for tag in ("sender", "signal", "receiver", "slot"))
    ends = []
    for name in (sender, receiver):
        end = top if name == top.objectName else top.findChild(QtCore.QObject, name)
        if end is None:
            raise UiError(f"connection {sender}.{signal} → {receiver}.{slot}: no object '{name}'")
        ends.append(end)
    try:
        resolve_signal(ends[0], signal)
        resolve_slot(ends[1], slot)
    except ValueError as error:
        raise UiError(f"connection {sender}.{signal} → {receiver}.{slot}: {error}") from error
    connect(ends[0], signal, ends[1], slot)
