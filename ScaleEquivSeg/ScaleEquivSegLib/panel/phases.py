"""What the worker says that it is doing, in the user's language."""

from __future__ import annotations

from slicer.i18n import tr as _

PREPARATORY = ("Starting", "Reading", "Loading the network", "Preparing", "Writing")
"""Phases whose fraction says nothing of how far the request as a whole is."""
_SCALE = "Scale "


def phase_title(phase: str) -> str:
    """What to call a phase; one that is not known here is called as the engine does."""
    if phase.startswith(_SCALE):
        return _("Scale {scale}").format(scale=phase.removeprefix(_SCALE))
    titles = {
        "Starting": _("Starting"),
        "Loading the network": _("Loading the network"),
        "Reading": _("Reading"),
        "Preparing": _("Preparing"),
        "Segmenting": _("Segmenting"),
        "Unscaled": _("Unscaled"),
        "Comparing": _("Comparing"),
        "Writing": _("Writing"),
    }
    return titles.get(phase, phase)
