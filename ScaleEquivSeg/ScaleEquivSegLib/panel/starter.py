"""A section's button that starts a job and cancels it while it runs, and the label beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from .desk import Desk
from .job import Work


class Starter:
    """The label says why the button cannot be pressed, how far the job is, and what became of it.

    `work` gives what the job is about, None if there will be none.
    """

    def __init__(self, desk: Desk, button: Any, label: Any, work: Callable[[], Work | None]) -> None:
        self._desk = desk
        self._button = button
        self._label = label
        self._title = button.text
        self._tip = button.toolTip
        self._work = work
        button.connect("clicked(bool)", self._on_clicked)

    def refresh(self, obstacle: str) -> None:
        """Follow the desk; the obstacle is empty if there is none."""
        mine = self._desk.label is self._label
        cancels = self._desk.running and mine
        self._button.text = _("Cancel") if cancels else self._title
        self._button.enabled = cancels or not (self._desk.running or obstacle)
        self._button.toolTip = (
            _("Stop. Nothing is kept of it.") if cancels else self._desk.busy or obstacle or self._tip
        )
        if not cancels:
            self._label.text = " ".join(text for text in (self._desk.outcome if mine else "", obstacle) if text)
        self._label.setVisible(cancels or bool(self._label.text))

    def _on_clicked(self, _checked: bool = False) -> None:
        if self._desk.running:
            self._desk.cancel()
        else:
            work = self._work()
            if work is not None:
                self._desk.run(work, self._label)
