"""The section Network: which networks run, what their cards say, and folders with more of them."""

from __future__ import annotations

from typing import Any

from ..bundles import Bundle
from .desk import Desk
from .parameters import NetworkChoice
from .showing import show_choices


class NetworkSection:
    """One selector for the equivariant network of a task and one for its baseline."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ui = desk.ui
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

    def refresh(self) -> None:
        """Follow the choices."""
        parameters = self._desk.parameters
        self._ui.networkSection.enabled = not self._desk.running
        if parameters is not None:
            self._offer(self._ui.equivariantModelSelector, "equivariantModel", baseline=False)
            self._offer(self._ui.baselineModelSelector, "baselineModel", baseline=True)

    def _offer(self, selector: Any, parameter: str, baseline: bool) -> None:
        bundles = self._desk.models.of_task(self._desk.parameters.task, baseline)
        names = [bundle.name for bundle in bundles]
        chosen = getattr(self._desk.parameters, parameter)
        if chosen not in names:
            chosen = _default(bundles)
            if getattr(self._desk.parameters, parameter) != chosen:
                setattr(self._desk.parameters, parameter, chosen)  # which refreshes again
        show_choices(selector, names, chosen)

    def _on_equivariant(self, name: str) -> None:
        if self._desk.parameters is not None and name:
            self._desk.parameters.equivariantModel = name

    def _on_baseline(self, name: str) -> None:
        if self._desk.parameters is not None and name:
            self._desk.parameters.baselineModel = name


def _default(bundles: list[Bundle]) -> str:
    """The name of the plain scale-equivariant network if there is one."""
    best = sorted(bundles, key=lambda bundle: bundle.network != "se_unet")
    return best[0].name if best else ""
