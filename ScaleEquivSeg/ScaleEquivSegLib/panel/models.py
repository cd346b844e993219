"""The models that the panel offers: those of the extension, and those in folders that the user has added."""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ..bundles import Bundle, RefusedBundle, bundled_models, find_bundles

FOLDERS_SETTING = "ScaleEquivSeg/ModelFolders"
"""Where Slicer's settings keep them: folders belong to a machine, not to a scene."""


def added_folders() -> list[Path]:
    """The user's own."""
    kept = slicer.app.settings().value(FOLDERS_SETTING)
    return [Path(text) for text in str(kept or "").split("\n") if text]


class Models:
    """What was found at the last look into the folders."""

    def __init__(self) -> None:
        self.bundles: list[Bundle] = []
        self.refused: list[RefusedBundle] = []
        self.look()

    def look(self) -> None:
        """Look into all folders again."""
        found, self.refused = find_bundles([bundled_models(), *added_folders()])
        self.bundles = [bundle for bundle in found if bundle.kind == "segmentation"]
        # Those that come with the extension the user has not chosen to be here.
        others = [bundle.folder for bundle in found if bundle not in self.bundles]
        reason = _("It tells pictures apart, and finds nothing in volumes; it is for the command line.")
        self.refused += [RefusedBundle(folder, reason) for folder in others if folder.parent != bundled_models()]

    def add_folder(self, folder: Path) -> None:
        """Look into this one, too, from now on."""
        self._keep([*(known for known in added_folders() if known != folder), folder])

    def remove_folder(self, folder: Path) -> None:
        """Look into it no longer."""
        self._keep([known for known in added_folders() if known != folder])

    def _keep(self, folders: list[Path]) -> None:
        # One text: of a list with one entry some platforms give back a text.
        slicer.app.settings().setValue(FOLDERS_SETTING, "\n".join(map(str, folders)))
        self.look()

    @property
    def tasks(self) -> list[str]:
        """What can be looked for."""
        return sorted({bundle.task for bundle in self.bundles})

    def of_task(self, task: str, baseline: bool) -> list[Bundle]:
        """The ordinary networks of a task, or the others."""
        return [bundle for bundle in self.bundles if bundle.task == task and bundle.is_baseline == baseline]
