"""A model bundle is a folder with a card and weights: finding bundles and reading cards, without loading a network."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from .card import models_folder, parse_card
from .errors import BadBundle
from .shades import Normalisation, read_normalisation
from .weights_file import check_weights

CARD = "card.json"
WEIGHTS = "weights.safetensors"
CARD_BYTES_AT_MOST = 2**24
WEIGHTS_BYTES_AT_MOST = 2**30
BASELINE = "unet"
"""The network every other one is compared with."""
NETWORKS = (BASELINE, "se_unet", "dynamic_se_unet", "pyramid_unet", "published_se_unet")
"""The networks there are, named here so that a card can be checked without torch."""
CLASSIFIERS = ("plain_classifier", "static_classifier", "dynamic_classifier")
"""Those that a bundle for classification may have."""
Kind = Literal["segmentation", "classification"]
LARGEST_LABEL = 65535
"""The largest value that a file of labels may have for a class."""
TERMINOLOGY = "Segmentation category and type - 3D Slicer General Anatomy list"


@dataclass(frozen=True)
class Channel:
    """One image the network takes, and how its values are shown to it."""

    name: str
    modality: str
    patterns: tuple[str, ...]
    normalisation: Normalisation

    @staticmethod
    def from_card(entry: Mapping[str, Any]) -> Channel:
        normalisation = read_normalisation(entry["normalisation"])
        return Channel(entry["name"], entry["modality"], tuple(entry["patterns"]), normalisation)


@dataclass(frozen=True)
class Label:
    """One class the network finds; `terminology` names it in coded terms for export, each (code, scheme, meaning).

    `opposite` is the name of the class that a mirror shows it as: its own, unless it has a side.
    """

    value: int
    name: str
    color: tuple[int, int, int]
    terminology: Mapping[str, Sequence[str]]
    opposite: str = ""

    @staticmethod
    def from_card(entry: Mapping[str, Any]) -> Label:
        red, green, blue = entry["color"]
        opposite = entry.get("opposite", entry["name"])
        return Label(entry["value"], entry["name"], (red, green, blue), entry["terminology"], opposite)

    @property
    def terminology_tag(self) -> str:
        """Category, type and its modifier in the form Slicer stores with a segment: scheme^code^meaning of each."""
        entries = (self.terminology.get(term, ("", "", "")) for term in ("category", "type", "modifier"))
        coded = [f"{scheme}^{code}^{meaning}" for code, scheme, meaning in entries]
        # context ~ category ~ type ~ type modifier ~ anatomic context ~ region ~ region modifier
        return "~".join([TERMINOLOGY, *coded, "Anatomic codes - DICOM master list", "^^", "^^"])


@dataclass(frozen=True)
class PictureClass:
    """What a picture may be of; `terminology` names it in coded terms."""

    name: str
    terminology: Mapping[str, Sequence[str]]

    @staticmethod
    def from_card(entry: Mapping[str, Any]) -> PictureClass:
        return PictureClass(entry["name"], entry.get("terminology", {}))


@dataclass(frozen=True)
class Bundle:
    """What a card says, and where its weights are. What belongs to the other kind is empty."""

    folder: Path
    card: Mapping[str, Any]
    name: str
    version: str
    kind: Kind
    task: str
    description: str
    inputs: tuple[Channel, ...]
    network: str
    arguments: Mapping[str, Any]
    sha256: str
    labels: tuple[Label, ...] = ()
    orientation: str = ""
    spacing: tuple[float, float, float] = (0.0, 0.0, 0.0)
    in_one_piece: tuple[int, ...] = ()
    """The labels of which the largest piece alone is kept."""
    classes: tuple[PictureClass, ...] = ()
    size: int = 0

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def mirrored_classes(self) -> tuple[int, ...]:
        """For each class of the network, the background first, the one that a mirror shows it as."""
        return mirrored_classes(self.labels)

    @property
    def is_baseline(self) -> bool:
        return self.network == BASELINE


@dataclass(frozen=True)
class RefusedBundle:
    """A folder that looks like a bundle and cannot be used."""

    folder: Path
    reason: str


def mirrored_classes(labels: Sequence[Label]) -> tuple[int, ...]:
    """For each class of a network, the background first, the one that a mirror shows it as."""
    value_of = {label.name: label.value for label in labels}
    return (0, *(value_of[label.opposite] for label in labels))


def left_right_axis(orientation: str) -> int:
    """Which axis of a volume in an orientation such as RAS is the one that a mirror turns round."""
    return next(axis for axis, letter in enumerate(orientation) if letter in "RL")


def bundled_models() -> Path:
    """The folder of the models that come with the extension, or with the installed package."""
    return models_folder()


def find_bundles(folders: Iterable[Path]) -> tuple[list[Bundle], list[RefusedBundle]]:
    """All bundles directly inside some folders, sorted by name, and those refused with the reason.

    Of bundles with one name the first is found and the others are refused: a name stands for one network.
    """
    found: dict[str, Bundle] = {}
    refused = []
    for folder in map(Path, folders):
        try:
            inside = bundle_folders(folder)
        except BadBundle as error:
            refused.append(RefusedBundle(folder, str(error)))
            continue
        for candidate in inside:
            try:
                bundle = _bundle_inside(folder, candidate)
                first = found.setdefault(bundle.name, bundle)
                if first is not bundle:
                    raise BadBundle(
                        f"{candidate} has the name {bundle.name}, as {first.folder} has; remove one of them, "
                        "or give it a name of its own and export it again."
                    )
            except BadBundle as error:
                refused.append(RefusedBundle(candidate, str(error)))
    return sorted(found.values(), key=lambda bundle: bundle.name), refused


def bundle_folders(folder: Path) -> list[Path]:
    """The folders directly inside a folder that look like bundles, good or bad."""
    try:
        # lexists, as a card that cannot be reached is a reason to tell, and not to leave the bundle out.
        return sorted(path for path in Path(folder).iterdir() if os.path.lexists(path / CARD))
    except OSError as error:
        raise BadBundle(
            f"{folder} cannot be searched for bundles: {error.strerror}; choose a folder that holds bundles."
        ) from error


def _bundle_inside(folder: Path, candidate: Path) -> Bundle:
    if _leads_out(candidate, folder):
        raise BadBundle(f"{candidate} is a link that leads out of {folder}; add the folder that it leads to instead.")
    return read_bundle(candidate)


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle's card and check all that can be checked without torch, the weights' hash and header too."""
    folder = Path(folder)
    try:
        bundle = _bundle_from_card(folder, parse_card(_read_inside(folder, CARD, CARD_BYTES_AT_MOST)))
    except (ValueError, RecursionError) as error:  # JSON may be nested deeper than Python can follow
        raise BadBundle(f"{folder / CARD} is not a valid card: {error}.") from error
    read_weights(bundle)
    return bundle


def check_card(card: Mapping[str, Any]) -> None:
    """Refuse with a ValueError, before a bundle is written, a card with which it could not be read."""
    text = json.dumps(card).encode("ascii")
    _bundle_from_card(Path(), parse_card(text))
    if len(text) > CARD_BYTES_AT_MOST // 2:  # the other half for a layout with lines, for people
        raise ValueError(f"it is larger than {CARD_BYTES_AT_MOST // 2**21} MiB")


def read_weights(bundle: Bundle) -> bytes:
    """The bytes of a bundle's weights, which are those its card vouches for."""
    data = _read_inside(bundle.folder, WEIGHTS, WEIGHTS_BYTES_AT_MOST)
    try:
        check_weights(data, bundle.sha256)
    except (ValueError, RecursionError) as error:
        raise BadBundle(
            f"{bundle.weights} cannot be used: {error}. Copy the bundle again from where it came."
        ) from error
    return data


def _read_inside(folder: Path, name: str, most: int) -> bytes:
    """A file that lies in the folder itself, and is not too large to be what it should be."""
    path = folder / name
    if _leads_out(path, folder):
        raise BadBundle(f"{path} is a link that leads out of the bundle; put the file itself in its place.")
    try:
        # A pipe would keep us waiting.
        if not path.is_file():
            raise BadBundle(f"{folder} has no file {name}; copy the whole bundle again.")
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except (OSError, ValueError) as error:
        raise BadBundle(f"{path} cannot be read: {error}; copy the bundle again.") from error
    if len(data) > most:
        raise BadBundle(f"{path} is larger than {most // 2**20} MiB, the most such a file may have.")
    return data


def _leads_out(path: Path, folder: Path) -> bool:
    return os.path.dirname(os.path.realpath(path)) != os.path.realpath(folder)


def bundle_named(name: str | Path, kind: Kind = "segmentation", folders: Sequence[Path] = ()) -> Bundle:
    """A bundle by its folder or, if it comes with the extension or lies in one of some more folders, by its name.

    One of another kind is refused.
    """
    bundle = read_bundle(Path(name)) if str(name) and (Path(name) / CARD).is_file() else _among(name, kind, folders)
    check_kind(bundle, kind)
    return bundle


def _among(name: str | Path, kind: Kind, folders: Sequence[Path]) -> Bundle:
    found, refused = find_bundles([bundled_models(), *folders])
    for bundle in found:
        if bundle.name == str(name):
            return bundle
    for other in refused:
        if other.folder.name == str(name):
            raise BadBundle(other.reason)
    if str(name) and Path(name).is_dir():
        raise BadBundle(f"{name} has no file {CARD}; give a bundle's folder, or copy the whole bundle again.")
    names = ", ".join(bundle.name for bundle in found if bundle.kind == kind) or "none is here"
    raise BadBundle(f"There is no bundle {str(name)!r}; give a bundle's folder or one of: {names}.")


def bundles_named(names: Iterable[str | Path], folders: Sequence[Path] = ()) -> list[Bundle]:
    """Several bundles for segmentation whose figures can stand side by side: no two have one name."""
    bundles = [bundle_named(name, folders=folders) for name in names]
    if not bundles:
        raise BadBundle("No bundle was named; give at least one.")
    if len({bundle.name for bundle in bundles}) < len(bundles):
        raise BadBundle("Two bundles have the same name, which their figures go by; sweep them one after the other.")
    return bundles


def check_kind(bundle: Bundle, kind: Kind) -> None:
    """Refuse a bundle that answers another question than the one asked."""
    if bundle.kind != kind:
        right = "`classify`" if bundle.kind == "classification" else "`segment` or the panel"
        raise BadBundle(f"{bundle.name} is a model for {bundle.kind}, not for {kind}; use it with {right}.")


def _bundle_from_card(folder: Path, card: Mapping[str, Any]) -> Bundle:
    """The card as a value; its form has been checked, what its entries have to do with each other has not."""
    kind, network = kind_of(card), card["network"]
    networks = CLASSIFIERS if kind == "classification" else NETWORKS
    if network["name"] not in networks:
        raise ValueError(f"the network {network['name']!a} is unknown for {kind}; known are {', '.join(networks)}")
    inputs = tuple(Channel.from_card(entry) for entry in card["inputs"])
    _check_names("inputs", inputs)
    bundle = Bundle(
        folder=folder,
        card=card,
        name=card["name"],
        version=card["version"],
        kind=kind,
        task=card["task"],
        description=card["description"],
        inputs=inputs,
        network=network["name"],
        arguments=network["arguments"],
        sha256=card["weights"]["sha256"],
    )
    return _for_classification(bundle) if kind == "classification" else _for_segmentation(bundle)


def kind_of(card: Mapping[str, Any]) -> Kind:
    """What a card's network answers."""
    kind: Kind = card.get("kind", "segmentation")
    return kind


def _for_segmentation(bundle: Bundle) -> Bundle:
    card, arguments, orientation = bundle.card, bundle.arguments, bundle.card["orientation"]
    if any(len(set(pair) & set(orientation)) != 1 for pair in ("RL", "AP", "SI")):
        raise ValueError(f"the orientation {orientation} must name one of R/L, of A/P and of S/I")
    labels = tuple(Label.from_card(entry) for entry in card["labels"])
    if [label.value for label in labels] != list(range(1, len(labels) + 1)):
        raise ValueError("label values must be 1, 2, 3, ... in this order")
    opposites = {label.name: label.opposite for label in labels}
    for name, opposite in opposites.items():
        if opposites.get(opposite) != name:
            raise ValueError(f"the label {name!a} has the opposite {opposite!a}, which does not have it for its own")
    _check_names("labels", labels)
    if (arguments["in_channels"], arguments["classes"]) != (len(bundle.inputs), len(labels) + 1):
        raise ValueError("the network must have a channel for each input and a class for each label and the background")
    x, y, z = map(float, card["spacing"])
    return replace(
        bundle,
        labels=labels,
        orientation=orientation,
        spacing=(x, y, z),
        in_one_piece=_in_one_piece(card.get("postprocessing", ()), labels),
    )


def _in_one_piece(steps: Sequence[Mapping[str, Any]], labels: Sequence[Label]) -> tuple[int, ...]:
    """All steps that there are: the form of cards knows no other."""
    values = {label.name: label.value for label in labels}
    names = [name for step in steps for name in step["labels"]]
    for name in names:
        if name not in values:
            raise ValueError(f"'postprocessing' names the label {name!a}, which is none of its labels")
    return tuple(values[name] for name in dict.fromkeys(names))


def _for_classification(bundle: Bundle) -> Bundle:
    classes = tuple(PictureClass.from_card(entry) for entry in bundle.card["classes"])
    _check_names("classes", classes)
    if len(bundle.inputs) != 1:
        raise ValueError(f"a classification takes one picture, and the card has {len(bundle.inputs)} inputs")
    if (bundle.arguments["in_channels"], bundle.arguments["classes"]) != (1, len(classes)):
        raise ValueError("the network of a classification must have one channel and a class for each of the card's")
    return replace(bundle, classes=classes, size=bundle.card["size"])


def _check_names(kind: str, entries: Sequence[Channel | Label | PictureClass]) -> None:
    name, times = Counter(entry.name for entry in entries).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{times} {kind} have the name {name!a}")
