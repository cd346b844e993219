"""The packages that computing needs, as the panel sees them: here, or installed when the user agrees."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from ..errors import SegmentationError
from ..requirements import package_problems, unmet
from .desk import Desk
from .installation import install, question


class Packages:
    """Asked by whoever is about to compute; nothing is installed or asked before."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ui = desk.ui
        self.installing = False

    def obstacle(self) -> str:
        """Why nothing can be started, empty if it can: Slicer goes on between any two lines that pip prints."""
        return _("Packages are being installed.") if self.installing else ""

    def ready(self, label: Any = None) -> bool:
        """Whether all packages are here, now or after the user had them installed; a label says why they are not."""
        missing = unmet()
        if not missing:
            return True
        title = _("Install packages for computing")
        if slicer.util.confirmOkCancelDisplay(question(missing, package_problems()), title):
            failure = self._installed()
        else:
            names = ", ".join(requirement.title for requirement in missing)
            failure = _("Not installed: {names}. Press the button to be asked again.").format(names=names)
        if failure:
            self._desk.tell(failure, label)
        return not failure

    def _installed(self) -> str:
        """Install what is missing; returns why it could not be, empty if it could."""
        self.installing = True
        self._ui.progressBar.setRange(0, 0)  # busy, as nobody knows how long
        self._ui.progressBar.show()
        self._desk.changed()
        try:
            with slicer.util.WaitCursor():
                install(unmet(), self._say_now)
        except SegmentationError as error:
            return str(error)
        finally:
            self.installing = False
            self._ui.progressBar.setRange(0, 100)
            self._ui.progressBar.hide()
            self._desk.stop("")  # a worker from before knows nothing of what was installed
            self._desk.changed()
        return ""

    def _say_now(self, text: str) -> None:
        self._ui.statusLabel.text = text
        slicer.app.processEvents()
