"""A model bundle is a folder with a card and weights: finding bundles and reading cards, without loading a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BadBundle

CARD = "card.json"
WEIGHTS = "weights.safetensors"
SCHEMA = 1
BASELINE = "unet"
"""The network every other one is compared with."""
TERMINOLOGY = "Segmentation category and type - 3D Slicer General Anatomy list"


@dataclass(frozen=True)
class Channel:
    """One image the network takes, and the percentiles of it that are mapped to 0 and 1."""

    name: str
    modality: str
    patterns: tuple[str, ...]
    percentiles: tuple[float, float]

    @staticmethod
    def from_card(entry: Mapping[str, Any]) -> Channel:
        low, high = (float(percentile) for percentile in entry["normalisation"]["percentiles"])
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles {low:g}, {high:g} must rise within 0 ... 100")
        return Channel(str(entry["name"]), str(entry["modality"]), tuple(entry["patterns"]), (low, high))


@dataclass(frozen=True)
class Label:
    """One class the network finds; `terminology` names it in coded terms for export."""

    value: int
    name: str
    color: tuple[int, int, int]
    terminology: Mapping[str, Sequence[str]]

    @staticmethod
    def from_card(entry: Mapping[str, Any]) -> Label:
        red, green, blue = (int(part) for part in entry["color"])
        return Label(int(entry["value"]), str(entry["name"]), (red, green, blue), dict(entry["terminology"]))

    @property
    def terminology_tag(self) -> str:
        """Category and type, each (code, scheme, meaning), in the form Slicer stores with a segment."""
        coded = ["^".join(self.terminology.get(key, ("", "", ""))) for key in ("category", "type")]
        # context ~ category ~ type ~ type modifier ~ anatomic context ~ region ~ region modifier
        return "~".join([TERMINOLOGY, *coded, "^^", "Anatomic codes - DICOM master list", "^^", "^^"])


@dataclass(frozen=True)
class Bundle:
    """What a card says, and where its weights are."""

    folder: Path
    card: Mapping[str, Any]
    name: str
    version: str
    task: str
    description: str
    inputs: tuple[Channel, ...]
    labels: tuple[Label, ...]
    orientation: str
    spacing: tuple[float, float, float]
    network: str
    arguments: Mapping[str, Any]
    sha256: str

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def is_baseline(self) -> bool:
        return self.network == BASELINE


@dataclass(frozen=True)
class RefusedBundle:
    """A folder that looks like a bundle and cannot be used."""

    folder: Path
    reason: str


def bundled_models() -> Path:
    """The folder of the models that come with the extension, or with the installed package."""
    beside = Path(__file__).resolve().parents[1] / "Resources" / "Models"
    return beside if beside.is_dir() else Path(__file__).resolve().parent / "models"


def find_bundles(folders: Iterable[Path]) -> tuple[list[Bundle], list[RefusedBundle]]:
    """All bundles directly inside some folders, sorted by name, and those refused with the reason."""
    found, refused = [], []
    for folder in folders:
        for card in sorted(Path(folder).glob(f"*/{CARD}")):
            try:
                found.append(read_bundle(card.parent))
            except BadBundle as error:
                refused.append(RefusedBundle(card.parent, str(error)))
    return sorted(found, key=lambda bundle: bundle.name), refused


def read_bundle(folder: Path) -> Bundle:
    """Read and check a bundle's card; the weights are checked when they are loaded."""
    folder = Path(folder)
    card = _read_card(folder)
    try:
        bundle = _bundle_from_card(folder, card)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadBundle(f"{folder / CARD} is not a valid card: {_complaint(error)}") from error
    if not bundle.weights.is_file():
        raise BadBundle(f"{folder} has no {WEIGHTS}; copy the whole bundle again.")
    return bundle


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadBundle(f"{path} cannot be read: {error}") from error
    if not isinstance(card, dict):
        raise BadBundle(f"{path} is not a valid card: it must be a JSON object.")
    schema = card.get("schema")
    if schema != SCHEMA:
        raise BadBundle(
            f"{path} has card schema {schema!r}; this version reads schema {SCHEMA}. "
            "A newer bundle needs a newer ScaleEquivSeg."
        )
    return card


def _bundle_from_card(folder: Path, card: Mapping[str, Any]) -> Bundle:
    spacing = tuple(float(s) for s in card["spacing"])
    if len(spacing) != 3 or min(spacing) <= 0:
        raise ValueError("spacing must be three positive numbers")
    orientation = str(card["orientation"])
    if len(orientation) != 3 or any(len(set(pair) & set(orientation)) != 1 for pair in ("RL", "AP", "SI")):
        raise ValueError(f"orientation {orientation!r} must name one of R/L, of A/P and of S/I")
    labels = tuple(Label.from_card(entry) for entry in card["labels"])
    if [label.value for label in labels] != list(range(1, len(labels) + 1)):
        raise ValueError("label values must be 1, 2, 3, ... in this order")
    return Bundle(
        folder=folder,
        card=card,
        name=str(card["name"]),
        version=str(card["version"]),
        task=str(card["task"]),
        description=str(card["description"]),
        inputs=tuple(Channel.from_card(entry) for entry in card["inputs"]),
        labels=labels,
        orientation=orientation,
        spacing=(spacing[0], spacing[1], spacing[2]),
        network=str(card["network"]["name"]),
        arguments=dict(card["network"]["arguments"]),
        sha256=str(card["weights"]["sha256"]),
    )


def _complaint(error: Exception) -> str:
    return f"the key {error} is missing." if isinstance(error, KeyError) else f"{error}."


def file_sha256(path: Path) -> str:
    """The hash that identifies a file's contents."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
