"""The section Network: which networks run, and what their cards say."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from ..bundles import Bundle
from .card_text import card_as_html
from .desk import Desk
from .parameters import NetworkChoice
from .showing import show_choices

ITEM_FLAGS = qt.Qt.UserRole - 1
"""Where Qt's own item model keeps whether an entry of a combo box can be chosen."""


class NetworkSection:
    """One selector for the equivariant network of a task and one for its baseline."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ui = desk.ui
        self._missing: dict[str, str] = {}
        self._details = ""
        self._ui.equivariantModelSelector.connect("currentTextChanged(QString)", self._on_equivariant)
        self._ui.baselineModelSelector.connect("currentTextChanged(QString)", self._on_baseline)

    @property
    def chosen(self) -> list[Bundle]:
        """What is to run, the equivariant network first."""
        parameters = self._desk.parameters
        if parameters is None:
            return []
        wanted = {
            NetworkChoice.BOTH: (parameters.equivariantModel, parameters.baselineModel),
            NetworkChoice.EQUIVARIANT: (parameters.equivariantModel,),
            NetworkChoice.BASELINE: (parameters.baselineModel,),
        }[parameters.network]
        of_task = [bundle for bundle in self._desk.models.bundles if bundle.task == parameters.task]
        return [bundle for name in wanted for bundle in of_task if bundle.name == name]

    def look_again(self) -> bool:
        """Look into the folders of models, into which something may have been exported since; whether those that are
        chosen are still there."""
        before = [bundle.name for bundle in self.chosen]
        self._desk.models.look()
        self._desk.changed()
        return [bundle.name for bundle in self.chosen] == before

    def refresh(self) -> None:
        """Follow the choices."""
        parameters = self._desk.parameters
        self._ui.networkSelector.enabled = not self._desk.running
        if parameters is None:
            self._missing = {}
            return
        self._offer_kinds()
        self._offer(self._ui.equivariantModelSelector, "equivariantModel", baseline=False)
        self._offer(self._ui.baselineModelSelector, "baselineModel", baseline=True)
        self._show_missing()
        html = "<hr>".join(map(card_as_html, self.chosen))
        if html != self._details:  # else the place that the user has scrolled to would be lost
            self._details = html
            self._ui.detailsText.setHtml(html)

    def _offer_kinds(self) -> None:
        """Only what the task has networks for can be chosen."""
        parameters, models = self._desk.parameters, self._desk.models
        equivariant, baseline = (bool(models.of_task(parameters.task, kind)) for kind in (False, True))
        possible = {
            NetworkChoice.BOTH: equivariant and baseline,
            NetworkChoice.EQUIVARIANT: equivariant,
            NetworkChoice.BASELINE: baseline,
        }
        if any(possible.values()) and not possible[parameters.network]:
            parameters.network = NetworkChoice.EQUIVARIANT if equivariant else NetworkChoice.BASELINE
        for index, choice in enumerate(NetworkChoice):
            flags = qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled if possible[choice] else qt.Qt.NoItemFlags
            self._ui.networkSelector.setItemData(index, int(flags), ITEM_FLAGS)

    def _offer(self, selector: Any, parameter: str, baseline: bool) -> None:
        bundles = self._desk.models.of_task(self._desk.parameters.task, baseline)
        names = [bundle.name for bundle in bundles]
        chosen = getattr(self._desk.parameters, parameter)
        if chosen not in names:
            if chosen not in ("", *(bundle.name for bundle in self._desk.models.bundles)):
                self._missing[parameter] = chosen
            chosen = _default(bundles)
        if self._missing.get(parameter) in names:
            chosen = self._missing.pop(parameter)
        if getattr(self._desk.parameters, parameter) != chosen:
            setattr(self._desk.parameters, parameter, chosen)  # which refreshes again
        show_choices(selector, names, chosen)
        selector.enabled = bool(names) and not self._desk.running
        for index, bundle in enumerate(bundles):
            selector.setItemData(index, card_as_html(bundle), qt.Qt.ToolTipRole)
        selector.toolTip = "".join(card_as_html(bundle) for bundle in bundles if bundle.name == chosen) or _(
            "There is no such network for this task."
        )

    def _show_missing(self) -> None:
        """Say which models the scene names and this machine has not."""
        self._ui.networkNote.text = " ".join(
            _("The scene names the model {name}, which is not here; {other} is taken instead.").format(
                name=name, other=getattr(self._desk.parameters, parameter) or _("none")
            )
            for parameter, name in self._missing.items()
        )
        self._ui.networkNote.setVisible(bool(self._missing))

    def _on_equivariant(self, name: str) -> None:
        self._choose("equivariantModel", name)

    def _on_baseline(self, name: str) -> None:
        self._choose("baselineModel", name)

    def _choose(self, parameter: str, name: str) -> None:
        if self._desk.parameters is not None and name:
            self._missing.pop(parameter, None)
            setattr(self._desk.parameters, parameter, name)


def _default(bundles: list[Bundle]) -> str:
    """The name of the plain scale-equivariant network if there is one."""
    best = sorted(bundles, key=lambda bundle: bundle.network != "se_unet")
    return best[0].name if best else ""
