"""What a model's card says, for somebody who decides whether to use the model."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from slicer.i18n import tr as _

from ..bundles import Bundle


def card_as_html(bundle: Bundle) -> str:
    """What the card tells a user; what it says is shown as it stands there and never taken for HTML."""
    card = bundle.card
    data = card["training_data"]
    said = {
        _("Description"): bundle.description,
        _("Intended use"): card["intended_use"],
        _("Limits"): card["limits"],
        _("Only the largest piece is kept of"): _in_one_piece(bundle),
        _("Licence"): card["licence"],
        _("Training data"): f"{data['name']} ({data['licence']})",
        _("Citation"): data["citation"],
        _("Metrics"): _metrics(card["metrics"]),
        _("Mean Dice by scale"): _by_scale(card["metrics"]),
        _("Time and memory"): _expected(bundle),
    }
    lines = [f"<b>{escape(title)}:</b> {escape(text)}" for title, text in said.items() if text]
    return "".join(f"<p>{line}</p>" for line in [f"<b>{escape(bundle.name)} {escape(bundle.version)}</b>", *lines])


def _in_one_piece(bundle: Bundle) -> str:
    return ", ".join(label.name for label in bundle.labels if label.value in bundle.in_one_piece)


def _metrics(metrics: Mapping[str, float]) -> str:
    """The figures of cases as they are."""
    as_they_are = {name.removesuffix("@1"): value for name, value in metrics.items()}
    return ", ".join(f"{name} {value:.3g}" for name, value in as_they_are.items() if "@" not in name)


def _by_scale(metrics: Mapping[str, float]) -> str:
    """Empty if cases were measured as they are alone."""
    start = "dice.mean@"
    means = {name.removeprefix(start): value for name, value in metrics.items() if name.startswith(start)}
    return ", ".join(f"\N{MULTIPLICATION SIGN}{scale} {value:.3g}" for scale, value in means.items() if len(means) > 1)


def _expected(bundle: Bundle) -> str:
    expected = bundle.card.get("expected")
    if expected is None:
        return ""
    return _("about {seconds:.0f} s and {gib:.1f} GiB for {size} voxels on {machine}").format(
        seconds=expected["seconds"],
        gib=expected["gib"],
        size=" x ".join(map(str, expected["size"])),
        machine=expected["machine"],
    )
