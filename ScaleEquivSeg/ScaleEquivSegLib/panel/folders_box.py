"""The box More models: the folders that the user has added, and the models that were refused with the reason."""

from __future__ import annotations

from html import escape
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from ..bundles import CARD, bundle_folders
from ..errors import BadBundle
from .desk import Desk
from .models import added_folders
from .showing import show_choices


class FoldersBox:
    """Adds folders and removes them; no file of the user's is touched."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ui = desk.ui
        self._refused: list[str] = []
        self._ui.modelsBox.collapsed = not desk.models.refused  # what is wrong is to be seen
        self._ui.addModelsButton.connect("clicked(bool)", self._on_add)
        self._ui.removeModelsButton.connect("clicked(bool)", self._on_remove)

    def refresh(self) -> None:
        """Show the folders and what was refused in them."""
        models = self._desk.models
        show_choices(self._ui.foldersSelector, [str(folder) for folder in added_folders()])
        self._ui.foldersSelector.toolTip = escape(self._ui.foldersSelector.currentText) or _("No folder was added.")
        self._ui.foldersSelector.enabled = bool(added_folders())
        self._ui.removeModelsButton.enabled = bool(added_folders()) and not self._desk.running
        refused = [f"<p><b>{escape(bad.folder.name)}:</b> {escape(bad.reason)}</p>" for bad in models.refused]
        if refused != self._refused:  # else the place that the user has scrolled to would be lost
            self._refused = refused
            self._ui.refusedText.setHtml("".join([f"<p>{_('These models cannot be used:')}</p>", *refused]))
        self._ui.refusedText.setVisible(bool(refused))

    def _on_add(self, _checked: bool = False) -> None:
        chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Choose a folder that holds models"))
        if not chosen:
            return
        folder = Path(chosen)
        if (folder / CARD).exists():  # somebody chose the model itself
            folder = folder.parent
        try:
            found = bundle_folders(folder)
        except BadBundle as error:
            slicer.util.errorDisplay(str(error))
            return
        if not found:
            slicer.util.errorDisplay(
                _(
                    "There is no model in {folder}. A model is a folder with a file {card}; choose the folder it is in."
                ).format(folder=folder, card=CARD)
            )
            return
        self._desk.models.add_folder(folder)
        self._ui.modelsBox.collapsed = False
        self._desk.changed()
        self._ui.foldersSelector.setCurrentIndex(self._ui.foldersSelector.count - 1)

    def _on_remove(self, _checked: bool = False) -> None:
        self._desk.models.remove_folder(Path(self._ui.foldersSelector.currentText))
        self._desk.changed()
