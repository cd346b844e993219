"""Volumes in, labels on the first volume's own grid out: what the panel, the command line and scripts all call."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import SimpleITK as sitk
import torch

from . import __version__
from .bundles import Bundle, Channel, check_kind
from .card import seal_of
from .devices import Precision, arithmetic, pick_device, run_where_it_fits
from .inference import Mirror, WorkingImage, load_network, score_planes
from .inputs import suitable
from .labelmap import segment_header
from .layers.resample import apply_along_axes
from .networks import SegmentationNetwork
from .networks.sweep import Planes
from .provenance import voxels_sha256, write_with_provenance
from .volume import (
    AxisOrder,
    Geometry,
    Volume,
    interpolation_weights,
    resample,
    working_geometry,
)

PLANES_AT_ONCE = 4
"""Labels are decided for so many planes at a time: the scores of all scales, side by side, take the most memory."""

Progress = Callable[[str, float], None]
"""Called with the phase and the fraction of it that is done; stops the run by raising `Cancelled`."""


@dataclass(frozen=True)
class Model:
    """A bundle with its network loaded."""

    bundle: Bundle
    network: SegmentationNetwork


@dataclass(frozen=True)
class Settings:
    """How to compute. Precision and mirroring may change a label; another device, the last digits of a score."""

    device: str = "auto"
    slab: int | None = None
    """Planes computed at once; as many as memory allows if None. Never changes the result."""
    precision: Precision = "float32"
    mirror: bool = False
    """Average with the mirror image, left for right; takes twice as long."""
    deterministic: bool = False
    """The same bits every time on the same device; on a GPU slower."""
    replace_nonfinite: bool = False
    """Take the smallest value of a volume for its voxels that are NaN or infinite, instead of refusing it."""

    def provenance(self) -> dict[str, str]:
        """The settings that can change a label, as strings for a file header."""
        return {name: str(getattr(self, name)) for name in ("precision", "mirror", "replace_nonfinite")}


@dataclass(frozen=True)
class Segmentation:
    """Labels on the input's own grid and what is worth knowing about how they came about."""

    labels: Volume
    bundle: Bundle
    settings: Settings
    inputs: tuple[str, ...]
    """The sha256 of the voxels of each input."""
    ml: Mapping[str, float]
    seconds: float
    device: str
    warnings: tuple[str, ...] = field(default=())

    def provenance(self) -> dict[str, str]:
        """Where the labels come from, as strings for a file header: all of it, and nothing that changes by the hour."""
        return {
            "bundle": self.bundle.name,
            "bundle_version": self.bundle.version,
            "weights_sha256": self.bundle.sha256,
            "card_sha256": seal_of(self.bundle.card),
            "input_voxels_sha256": " ".join(self.inputs),
            **self.settings.provenance(),
            "device": self.device,
            "deterministic": str(self.settings.deterministic),
            **software(),
            **({"warnings": " ".join(self.warnings)} if self.warnings else {}),
        }


def software() -> dict[str, str]:
    """The versions of what computes."""
    return {
        "software": f"ScaleEquivSeg {__version__}",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "simpleitk": sitk.Version.VersionString(),
        "python": platform.python_version(),
    }


def load_model(bundle: Bundle) -> Model:
    """Load the network of a bundle for segmentation."""
    check_kind(bundle, "segmentation")
    network = load_network(bundle)
    assert isinstance(network, SegmentationNetwork)  # read_bundle knows the networks of each kind
    return Model(bundle, network)


def segment(
    channels: Sequence[Volume],
    model: Model,
    settings: Settings = Settings(),
    progress: Progress = lambda phase, fraction: None,
) -> Segmentation:
    """Segment a volume of one or several channels; the labels lie on the grid of the first."""
    started = time.monotonic()
    device = pick_device(settings.device)
    progress("Preparing", 0.0)
    hashes = tuple(voxels_sha256(channel) for channel in channels)
    channels, notes = suitable(channels, hashes, model.bundle, settings.replace_nonfinite)
    geometry = channels[0].geometry
    constant = [c.name for c, v in zip(model.bundle.inputs, channels, strict=True) if v.array.min() == v.array.max()]
    if constant:
        labels = np.zeros(geometry.shape, np.uint8)
        notes.append(f"{', '.join(constant)} has the same value everywhere; the segmentation is empty.")
    else:
        order = AxisOrder.towards(geometry.direction, model.bundle.orientation)
        upright = [order.apply(channel) for channel in channels]
        found, device = _label_upright(upright, model, device, settings, progress, notes.append)
        labels = order.undo(found)
    return Segmentation(
        labels=Volume(labels, geometry),
        bundle=model.bundle,
        settings=settings,
        inputs=hashes,
        ml={label.name: float((labels == label.value).sum()) * geometry.voxel_ml for label in model.bundle.labels},
        seconds=time.monotonic() - started,
        device=str(device),
        warnings=tuple(notes),
    )


def _label_upright(
    channels: Sequence[Volume],
    model: Model,
    device: torch.device,
    settings: Settings,
    progress: Progress,
    note: Callable[[str], None],
) -> tuple[np.ndarray, torch.device]:
    """Labels on the grid of volumes that are already in the bundle's orientation, and where they were computed."""
    image, working = _working_image_upright(channels, model.bundle)
    left_right = next(axis for axis, letter in enumerate(model.bundle.orientation) if letter in "RL")
    mirror = Mirror(left_right, model.bundle.mirrored_classes) if settings.mirror else None

    def run(where: torch.device, slab: int | None) -> np.ndarray:
        with arithmetic(where, settings.precision, settings.deterministic):
            scores = score_planes(
                model.network,
                image,
                where,
                lambda fraction: progress("Segmenting", fraction),
                slab,
                mirror,
            )
            return _labels_on_grid(scores, working, channels[0].geometry)

    return run_where_it_fits(run, device, note, settings.slab)


class Preparation(Protocol):
    """What a card says of how volumes are shown to a network."""

    @property
    def inputs(self) -> tuple[Channel, ...]: ...
    @property
    def orientation(self) -> str: ...
    @property
    def spacing(self) -> tuple[float, float, float]: ...


def working_image(channels: Sequence[Volume], how: Preparation) -> tuple[WorkingImage, Geometry]:
    """What a network is shown of volumes, and the grid it lies on."""
    order = AxisOrder.towards(channels[0].geometry.direction, how.orientation)
    return _working_image_upright([order.apply(channel) for channel in channels], how)


def _working_image_upright(channels: Sequence[Volume], how: Preparation) -> tuple[WorkingImage, Geometry]:
    target = working_geometry(channels[0].geometry, np.array(how.spacing))
    arrays = [resample(volume, target).array for volume in channels]
    shades = [channel.normalisation.of(array) for array, channel in zip(arrays, how.inputs, strict=True)]
    return WorkingImage(arrays, shades), target


def _labels_on_grid(scores: Planes, source: Geometry, target: Geometry) -> np.ndarray:
    """The most probable class at every voxel of a grid with the same axes (k, j, i), plane by plane.

    On another grid probabilities are interpolated first, then compared.
    """
    size = [int(n) for n in target.size]
    labels = np.empty(size, np.uint8)  # x, y, z as the scores
    read, axis = scores.reader(), scores.axis
    same = source.agrees_with(target, tolerance_mm=1e-6)
    weights = [] if same else [torch.from_numpy(w) for w in interpolation_weights(source, target)]
    for start in range(0, size[axis], PLANES_AT_ONCE):
        stop = min(start + PLANES_AT_ONCE, size[axis])
        if same:
            planes = read(start, stop)
        else:
            used = weights[axis][start:stop].any(0).nonzero()
            first, last = int(used.min()), int(used.max()) + 1
            along = [w[start:stop, first:last] if i == axis else w for i, w in enumerate(weights)]
            planes = apply_along_axes(torch.softmax(read(first, last).float(), 0)[None], along)[0]
        labels[tuple(slice(start, stop) if i == axis else slice(None) for i in range(3))] = planes.argmax(0).cpu()
    return labels.transpose(2, 1, 0)


def write_segmentation(segmentation: Segmentation, path: Path, compress: bool = True) -> None:
    """Write labels as a `.seg.nrrd` that Slicer opens as a segmentation with names, colours and coded terms.

    For other formats a text beside the file, `provenance_path`, says where the labels come from.
    """
    header = segment_header(segmentation.bundle.labels, segmentation.labels.geometry)
    write_with_provenance(segmentation.labels, path, segmentation.provenance(), header, compress)


def report(segmentation: Segmentation) -> dict[str, str | float]:
    """What a script wants to know of a finished segmentation, flat."""
    return {
        "bundle": segmentation.bundle.name,
        "sha256": segmentation.bundle.sha256,
        "seconds": segmentation.seconds,
        **{f"ml.{name}": value for name, value in segmentation.ml.items()},
    }
