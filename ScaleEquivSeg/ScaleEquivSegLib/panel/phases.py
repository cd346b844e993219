"""What the worker says that it is doing, in the user's language."""

from __future__ import annotations

from slicer.i18n import tr as _

HOW_FAR = {"Starting": 0.0, "Reading": 0.0, "Loading the network": 0.0, "Preparing": 0.0, "Writing": 1.0}
"""Of phases whose own fraction does not say it: how far the request as a whole is then."""
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
        "Keeping the largest pieces": _("Keeping the largest pieces"),
        "Writing": _("Writing"),
    }
    return titles.get(phase, phase)
