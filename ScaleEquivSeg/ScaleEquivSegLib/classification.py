"""A picture of one slice in, a probability for each class out: what the command line and scripts call.
The picture's central square is all that a network is shown."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .bundles import Bundle, Channel, check_kind
from .card import seal_of
from .devices import arithmetic, pick_device, run_where_it_fits
from .errors import BadBundle, UnsuitableVolume
from .inference import WorkingImage, load_network
from .inputs import checked_image
from .networks import Classifier
from .provenance import voxels_sha256
from .segmentation import software
from .volume import Geometry, Volume, make_geometry, resample

FLAT = 1e-6
"""Values that differ by less than this share of themselves differ by rounding."""
UNSEEN = 0.01
"""If more of a picture than this lies outside its central square, that is worth a note."""


@dataclass(frozen=True)
class ClassifierModel:
    """A bundle for classification with its network loaded."""

    bundle: Bundle
    network: Classifier


@dataclass(frozen=True)
class Classification:
    """How probable each class is, and what is worth knowing about how that came about."""

    probabilities: dict[str, float]
    bundle: Bundle
    input: str
    """The sha256 of the picture's pixels."""
    seconds: float
    device: str
    warnings: tuple[str, ...] = ()

    @property
    def most_probable(self) -> str:
        return max(self.probabilities, key=lambda name: self.probabilities[name])


class PictureForm(Protocol):
    """What a card says of how pictures are shown to a network."""

    @property
    def inputs(self) -> tuple[Channel, ...]: ...
    @property
    def size(self) -> int: ...


def load_classifier(bundle: Bundle) -> ClassifierModel:
    """Load the network of a bundle for classification."""
    check_kind(bundle, "classification")
    network = load_network(bundle)
    assert isinstance(network, Classifier)  # read_bundle knows the networks of each kind
    return ClassifierModel(bundle, network)


def classify(
    picture: Volume, model: ClassifierModel, device: str = "auto", replace_nonfinite: bool = False
) -> Classification:
    """Classify a volume of one slice, whichever of its axes that is."""
    started = time.monotonic()
    chosen = pick_device(device)
    sha256 = voxels_sha256(picture)
    notes: list[str] = []
    picture = checked_image(model.bundle.inputs[0], picture, replace_nonfinite, notes)
    shown = working_picture(picture, model.bundle)
    notes += _unseen(picture.geometry)

    def run(where: torch.device, _slab: int | None) -> Tensor:
        with arithmetic(where, "float32", deterministic=False):
            return torch.softmax(model.network.to(where)(shown[None].to(where))[0].cpu().double(), 0)

    found, where = run_where_it_fits(run, chosen, notes.append)
    if not found.isfinite().all():
        raise BadBundle(f"{model.bundle.name} answers with what is no number; copy it again, or export it again.")
    names = [each.name for each in model.bundle.classes]
    return Classification(
        probabilities=dict(zip(names, found.tolist(), strict=True)),
        bundle=model.bundle,
        input=sha256,
        seconds=time.monotonic() - started,
        device=str(where),
        warnings=tuple(notes),
    )


def working_picture(picture: Volume, how: PictureForm) -> Tensor:
    """What a network is shown of a picture, (channel, i, j) of its two long axes: the central square of it, resampled
    and in the shades that the card describes.

    The square is one in millimetres. Turning the picture by quarters or mirroring it does the same to what is shown.
    """
    thin = _thin_axis(picture.geometry)
    square = resample(picture, _square(picture.geometry, thin, how.size)).array
    if np.ptp(square) <= FLAT * np.abs(square).max():
        raise UnsuitableVolume(
            "The picture has the same value everywhere in its central square; there is nothing to classify in it."
        )
    shades = how.inputs[0].normalisation.of(square)
    return WorkingImage([square], [shades]).whole().squeeze(1 + thin)


def _thin_axis(geometry: Geometry) -> int:
    """Which of i, j, k has one slice."""
    thin = np.flatnonzero(geometry.size == 1)
    if len(thin) != 1:
        size = " x ".join(map(str, geometry.size))
        raise UnsuitableVolume(f"A picture of one slice can be classified, and this has {size} voxels; extract one.")
    return int(thin[0])


def _square(geometry: Geometry, thin: int, pixels: int) -> Geometry:
    """A grid of so many pixels a side over the largest square about the middle of a slice."""
    extent = geometry.size * geometry.spacing
    side = np.delete(extent, thin).min()
    size, spacing = np.full(3, pixels), np.full(3, side / pixels)
    size[thin], spacing[thin] = 1, geometry.spacing[thin]
    center = geometry.to_ras((geometry.size - 1) / 2)
    return make_geometry((int(size[0]), int(size[1]), int(size[2])), spacing, geometry.direction, center)


def _unseen(geometry: Geometry) -> list[str]:
    sides = np.delete(geometry.size * geometry.spacing, _thin_axis(geometry))
    share = 1 - sides.min() / sides.max()
    return [f"{share:.0%} of the picture lies outside its central square and was not seen."] if share > UNSEEN else []


def report(result: Classification) -> dict[str, str | float]:
    """What a script wants to know of a picture, flat: its probabilities, and where they come from."""
    return {
        "bundle": result.bundle.name,
        "bundle_version": result.bundle.version,
        "sha256": result.bundle.sha256,
        "card_sha256": seal_of(result.bundle.card),
        "input_voxels_sha256": result.input,
        "class": result.most_probable,
        **{f"probability.{name}": value for name, value in result.probabilities.items()},
        "seconds": result.seconds,
        "device": result.device,
        **software(),
        "warnings": " ".join(result.warnings),
    }
