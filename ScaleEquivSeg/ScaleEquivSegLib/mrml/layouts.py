"""The layouts of our own: two networks side by side, and a plot below the slices; and the way back to the user's."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from .segmentations import ATTRIBUTES

COMPARED_VIEWS = ("ScaleEquivSegLeft", "ScaleEquivSegRight")
"""The names that the two slice views have, and the two 3D views below them."""
PLOT_VIEW = "ScaleEquivSegPlot"
SIDE_BY_SIDE_LAYOUT = 7301
PLOT_LAYOUT = 7302
"""Any numbers that no other layout uses."""

_FORMER = f"{ATTRIBUTES}FormerLayout"
_COLORS = ("#2A9D8F", "#E09F3E")
_OWN_GROUP = '<property name="viewgroup" action="default">7301</property>'
"""Views are linked within a group: those of the user stay as they are."""


def _row(*views: str) -> str:
    return f'<layout type="horizontal">{"".join(f"<item>{view}</item>" for view in views)}</layout>'


def _column(*rows: str) -> str:
    return f'<layout type="vertical" split="true">{"".join(f"<item>{row}</item>" for row in rows)}</layout>'


def _slice_view(name: str, orientation: str, color: str, label: str, more: str = "") -> str:
    return (
        f'<view class="vtkMRMLSliceNode" singletontag="{name}">{more}'
        f'<property name="orientation" action="default">{orientation}</property>'
        f'<property name="viewlabel" action="default">{label}</property>'
        f'<property name="viewcolor" action="default">{color}</property></view>'
    )


_DESCRIPTIONS = {
    SIDE_BY_SIDE_LAYOUT: _column(
        _row(
            *(
                _slice_view(view, "Axial", color, label, _OWN_GROUP)
                for view, color, label in zip(COMPARED_VIEWS, _COLORS, "AB", strict=True)
            )
        ),
        _row(*(f'<view class="vtkMRMLViewNode" singletontag="{view}">{_OWN_GROUP}</view>' for view in COMPARED_VIEWS)),
    ),
    PLOT_LAYOUT: _column(
        _row(
            _slice_view("Red", "Axial", "#F34A33", "R"),
            _slice_view("Green", "Coronal", "#6EB04B", "G"),
            _slice_view("Yellow", "Sagittal", "#EDD54C", "Y"),
        ),
        f'<view class="vtkMRMLPlotViewNode" singletontag="{PLOT_VIEW}">'
        '<property name="viewlabel" action="default">P</property></view>',
    ),
}


def no_views() -> str:
    """Why nothing can be shown in views, empty if it can."""
    return "" if _layout_node() is not None else _("Views need Slicer's main window.")


def add_layouts() -> None:
    """Tell Slicer of them: a saved scene may ask for one as soon as it is loaded."""
    node = _layout_node()
    if node is None:
        return
    for number, description in _DESCRIPTIONS.items():
        if not node.SetLayoutDescription(number, description):
            node.AddLayoutDescription(number, description)
    if not node.GetCurrentLayoutDescription():  # a scene that was loaded first has asked for one in vain
        node.SetViewArrangement(node.GetViewArrangement())


def is_shown(layout: int) -> bool:
    """Whether the views are arranged like that."""
    node = _layout_node()
    return node is not None and bool(node.GetViewArrangement() == layout)


def show_layout(layout: int) -> None:
    """Arrange the views; the layout that the user had is remembered in the scene."""
    node = _layout_node()
    if node.GetViewArrangement() not in _DESCRIPTIONS:
        node.SetAttribute(_FORMER, str(node.GetViewArrangement()))
    slicer.app.layoutManager().setLayout(layout)


def leave_layout(layout: int) -> None:
    """Arrange the views as the user had them, unless that has been done already."""
    if is_shown(layout):
        node = _layout_node()
        former = int(node.GetAttribute(_FORMER) or slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        known = node.IsLayoutDescription(former)  # a saved scene may name the layout of a module that is not here
        slicer.app.layoutManager().setLayout(former if known else slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)


def leave_layouts() -> None:
    """Arrange the views as the user had them, if one of ours is shown."""
    for layout in _DESCRIPTIONS:
        leave_layout(layout)


def _layout_node() -> Any:
    """What says how the views are arranged, None without a main window: then there are none."""
    manager = slicer.app.layoutManager()
    return None if manager is None else manager.layoutLogic().GetLayoutNode()
