"""Modal dialogs that are recorded and answered at once instead of waiting for a user.
Covers slicer.util's message functions, QMessageBox, QFileDialog, QInputDialog and any QDialog run modally."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer.util
from PySide6 import QtWidgets

Box = QtWidgets.QMessageBox
_YES = (Box.Ok, Box.Yes, Box.YesToAll, Box.Retry, Box.Save, Box.Open, Box.Apply, Box.Ignore)
_NO = (Box.Cancel, Box.No, Box.NoToAll, Box.Close, Box.Abort, Box.Discard)
_KINDS = {Box.Critical: "error", Box.Warning: "warning", Box.Information: "info", Box.Question: "question"}


@dataclasses.dataclass(frozen=True)
class Dialog:
    """What a user would have seen: `kind` is error, warning, info, question, file, input, popup or dialog."""

    kind: str
    text: str
    title: str = ""
    details: str = ""


Answer = bool | str | int | Callable[[Dialog], Any]


class DialogRecorder:
    """Holds the dialogs shown so far, and the answer to the next: a value, or a function of the dialog."""

    def __init__(self) -> None:
        self.shown: list[Dialog] = []
        self.answer: Answer = True

    def show(self, dialog: Dialog) -> Any:
        self.shown.append(dialog)
        return self.answer(dialog) if callable(self.answer) else self.answer

    def install(self) -> None:
        """Take the place of every modal entry point."""
        widgets: Any = QtWidgets
        recorder = self

        def run_dialog(dialog: Any) -> int:
            return int(bool(recorder.show(Dialog("dialog", "", dialog.windowTitle))))

        def run_message_box(box: Any) -> int:
            shown = Dialog(_KINDS.get(box.icon, "info"), box.text, box.windowTitle.strip(), box.detailedText)
            return _button(recorder.show(shown), box.standardButtons)

        for cls, run in ((widgets.QDialog, run_dialog), (widgets.QMessageBox, run_message_box)):
            cls.exec = cls.exec_ = run
        for name, kind in (
            ("information", "info"),
            ("warning", "warning"),
            ("critical", "error"),
            ("question", "question"),
        ):
            setattr(widgets.QMessageBox, name, staticmethod(self._static_box(kind)))
        for name in ("getExistingDirectory", "getOpenFileName", "getSaveFileName"):
            setattr(widgets.QFileDialog, name, staticmethod(self._path_dialog(saves=name == "getSaveFileName")))
        for name in ("getText", "getItem", "getInt", "getDouble"):
            setattr(widgets.QInputDialog, name, staticmethod(self._input_dialog))
        util: Any = slicer.util
        util._messageDisplay = self._message_display
        util.delayDisplay = self._delay_display

    def _static_box(self, kind: str) -> Callable[..., int]:
        default = Box.Yes | Box.No if kind == "question" else Box.Ok

        def run(parent: Any, title: str, text: str, buttons: Any = default, *_: Any) -> int:
            return _button(self.show(Dialog(kind, text, title)), buttons)

        return run

    def _path_dialog(self, saves: bool) -> Callable[..., str]:
        def run(parent: Any = None, title: str = "", suggested: str = "", *_: Any, **__: Any) -> str:
            answer = self.show(Dialog("file", suggested, title))
            path = answer if isinstance(answer, str) else ""
            if saves and path and Path(path).exists():  # Qt asks
                text = f"{Path(path).name} already exists.\nDo you want to replace it?"
                return path if self.show(Dialog("question", text, title)) else ""
            return path

        return run

    def _input_dialog(self, parent: Any, title: str, label: str, *_: Any, **__: Any) -> Any:
        return self.show(Dialog("input", label, title))

    def _message_display(
        self, level: int, text: str, testing: Any, mainWindowNeeded: bool = False, **options: Any
    ) -> Any:
        # Slicer shows nothing without a main window; here there never is one, and everything must be seen.
        logging.getLogger("slicerhost").log(min(level, logging.INFO), text)
        options["windowTitle"] = options.get("windowTitle") or "Slicer"
        return slicer.util.messageBox(text, **options)

    def _delay_display(self, message: str, autoCloseMsec: int = 1000, parent: Any = None, **options: Any) -> None:
        self.show(Dialog("popup", message))
        slicer.app.processEvents()


def _button(answer: Any, offered: Any) -> int:
    """The standard button that stands for yes or no among those offered; an int names the button itself."""
    if isinstance(answer, int) and not isinstance(answer, bool):
        return answer
    for button in _YES if answer else _NO:
        if int(offered) & int(button):
            return int(button)
    return int(Box.Ok if answer else Box.Cancel)
