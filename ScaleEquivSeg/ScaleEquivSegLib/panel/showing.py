"""Widgets that show something without telling it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt


def show_choices(selector: Any, choices: Sequence[str], chosen: str | None = None) -> None:
    """Fill a combo box, if it shows others, and choose an entry, if one is given; nobody hears of it.

    The tooltip begins with what is chosen: in a narrow panel the box itself may cut it off.
    """
    was_blocked = selector.blockSignals(True)
    if [selector.itemText(n) for n in range(selector.count)] != list(choices):
        selector.clear()
        selector.addItems(list(choices))
    if chosen is not None:
        selector.setCurrentIndex(selector.findText(chosen))
    selector.blockSignals(was_blocked)
    if not selector.whatsThis:
        selector.whatsThis = selector.toolTip
    selector.toolTip = "\n".join(text for text in (selector.currentText, selector.whatsThis) if text)


def reach_by_keys(selector: Any) -> None:
    """Let the Tab key reach a selector of nodes: Slicer's takes no keys, and has its combo box leave them to it."""
    for box in selector.findChildren(qt.QComboBox):
        box.setFocusProxy(None)
