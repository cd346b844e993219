"""The packages that computing needs, as the panel sees them: here, or installed when the user agrees."""

from __future__ import annotations

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
        """Meanwhile Slicer goes on, and nothing can be computed."""

    def ready(self) -> bool:
        """Whether all packages are here, now or after the user had them installed."""
        missing = unmet()
        if not missing:
            return True
        title = _("Install packages for computing")
        if slicer.util.confirmOkCancelDisplay(question(missing, package_problems()), title):
            return self._installed()
        names = ", ".join(requirement.title for requirement in missing)
        self._desk.tell(_("Not installed: {names}. Press the button to be asked again.").format(names=names))
        return False

    def _installed(self) -> bool:
        self.installing = True
        self._ui.progressBar.setRange(0, 0)  # busy, as nobody knows how long
        self._ui.progressBar.show()
        self._desk.changed()
        try:
            install(unmet(), self._say_now)
        except SegmentationError as error:
            self._desk.tell(str(error))
            return False
        finally:
            self.installing = False
            self._ui.progressBar.setRange(0, 100)
            self._ui.progressBar.hide()
            self._desk.stop("")  # a worker from before knows nothing of what was installed
            self._desk.changed()
        return True

    def _say_now(self, text: str) -> None:
        self._ui.statusLabel.text = text
        slicer.app.processEvents()
