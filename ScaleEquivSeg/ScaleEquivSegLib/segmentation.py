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
from .bundles import Bundle, Channel, check_kind, left_right_axis
from .card import seal_of
from .devices import Precision, arithmetic, ever_thinner, pick_device, run_where_it_fits
from .errors import BadBundle
from .inference import Mirror, WorkingImage, goes_by_slabs, load_network, score_planes, slices
from .inputs import suitable
from .labelmap import segment_header
from .layers.arrays import tensor_of
from .layers.resample import apply_along_axes
from .networks import SegmentationNetwork
from .networks.sweep import Part, Planes
from .pieces import keep_largest
from .provenance import voxels_sha256, write_with_provenance
from .roi import Box
from .volume import (
    AxisOrder,
    Geometry,
    Volume,
    interpolation_weights,
    resample,
    working_geometry,
)

SAME_SLAB = 8
"""Planes computed at once where the same bits are wanted every time, however much memory is free."""

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
    """Planes computed at once; as many as memory allows if None. Changes the last digits of a score at most."""
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
    roi: Box | None = None
    """What lies outside was not looked at."""

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
            **({"roi": self.roi.text()} if self.roi else {}),
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
    roi: Box | None = None,
) -> Segmentation:
    """Segment a volume of one or several channels; the labels lie on the grid of the first.

    With a region of interest there are labels in it alone, the same as without, but that the largest piece of a
    structure is then the largest in the region. It has to lie in the world as the volume does. What a network needs to
    see around it is computed, and not more, unless the network sees all at once.
    """
    started = time.monotonic()
    device = pick_device(settings.device)
    progress("Preparing", 0.0)
    hashes = tuple(voxels_sha256(channel) for channel in channels)
    channels, notes = suitable(channels, hashes, model.bundle, settings.replace_nonfinite)
    geometry = channels[0].geometry
    order = AxisOrder.towards(geometry.direction, model.bundle.orientation)
    upright = [order.apply(channel) for channel in channels]
    wanted = _Wanted.of(roi, upright[0].geometry)
    constant = [c.name for c, v in zip(model.bundle.inputs, channels, strict=True) if v.array.min() == v.array.max()]
    if constant:
        labels = np.zeros(geometry.shape, np.uint8)
        notes.append(f"{', '.join(constant)} has the same value everywhere; the segmentation is empty.")
    else:
        found, device = _label_upright(upright, model, device, settings, wanted.part, progress, notes.append)
        labels = order.undo(wanted.placed(found))
        keep_largest(labels, model.bundle.in_one_piece, lambda: progress("Keeping the largest pieces", 1.0))
    return Segmentation(
        labels=Volume(labels, geometry),
        bundle=model.bundle,
        settings=settings,
        inputs=hashes,
        ml={label.name: float((labels == label.value).sum()) * geometry.voxel_ml for label in model.bundle.labels},
        seconds=time.monotonic() - started,
        device=str(device),
        warnings=tuple(notes),
        roi=roi,
    )


@dataclass(frozen=True, eq=False)
class _Wanted:
    """Where on a grid labels are wanted: in some or all of the voxels of a part of it."""

    shape: tuple[int, int, int]
    part: Part
    inside: np.ndarray | None

    @staticmethod
    def of(roi: Box | None, geometry: Geometry) -> _Wanted:
        if roi is None:
            i, j, k = map(range, geometry.shape[::-1])
            return _Wanted(geometry.shape, (i, j, k), None)
        return _Wanted(geometry.shape, *roi.voxels_in(geometry))

    def placed(self, found: np.ndarray) -> np.ndarray:
        """The labels (k, j, i) of the part where they belong, background all around."""
        if self.inside is None:
            return found
        labels = np.zeros(self.shape, np.uint8)
        labels[slices(self.part)[::-1]] = found * self.inside
        return labels


def _label_upright(
    channels: Sequence[Volume],
    model: Model,
    device: torch.device,
    settings: Settings,
    part: Part,
    progress: Progress,
    note: Callable[[str], None],
) -> tuple[np.ndarray, torch.device]:
    """Labels of a part of volumes that are already in the bundle's orientation, and where they were computed."""
    image, working = _working_image_upright(channels, model.bundle)
    back = _WayBack.between(working, channels[0].geometry, part)
    bundle = model.bundle
    mirror = Mirror(left_right_axis(bundle.orientation), bundle.mirrored_classes) if settings.mirror else None

    def run(where: torch.device, slab: int | None) -> np.ndarray:
        with arithmetic(where, settings.precision, settings.deterministic):
            scores = score_planes(
                model.network,
                image,
                where,
                lambda fraction: progress("Segmenting", fraction),
                slab,
                mirror,
                back.seen,
            )
            return _labels_of(scores, back)

    slab = settings.slab or (SAME_SLAB if settings.deterministic else None)
    return run_where_it_fits(run, device, note, ever_thinner(slab) if goes_by_slabs(model.network) else [None])


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


@dataclass(frozen=True)
class _WayBack:
    """How scores on one grid become those of a part of another with the same axes: the part of the first that is seen,
    and per axis x, y, z the matrix (voxels of the part, voxels of the first grid) that interpolates; none if the grids
    are the same."""

    part: Part
    seen: Part
    weights: Sequence[torch.Tensor]

    @staticmethod
    def between(source: Geometry, target: Geometry, part: Part) -> _WayBack:
        if source.agrees_with(target, tolerance_mm=1e-6):
            return _WayBack(part, part, ())
        matrices = interpolation_weights(source, target)
        rows = [tensor_of(matrix[wanted.start : wanted.stop]) for matrix, wanted in zip(matrices, part, strict=True)]
        x, y, z = map(_columns_used, rows)
        return _WayBack(part, (x, y, z), rows)


def _columns_used(rows: torch.Tensor) -> range:
    used = rows.any(0).nonzero()
    return range(int(used.min()), int(used.max()) + 1)


def _labels_of(scores: Planes, back: _WayBack) -> np.ndarray:
    """The most probable class at every voxel (k, j, i) of a part, plane by plane.

    On another grid probabilities are interpolated first, then compared.
    """
    labels = np.empty([len(indices) for indices in back.part], np.uint8)  # x, y, z as the scores
    written = tensor_of(labels)
    read, axis = scores.reader(), scores.axis
    offset, count = back.part[axis].start, len(back.part[axis])
    for start in range(0, count, PLANES_AT_ONCE):
        stop = min(start + PLANES_AT_ONCE, count)
        if not back.weights:
            planes = read(offset + start, offset + stop)
        else:
            rows = [w[start:stop] if i == axis else w for i, w in enumerate(back.weights)]
            seen = [_columns_used(r) if i == axis else s for i, (r, s) in enumerate(zip(rows, back.seen, strict=True))]
            weights = [r[:, s.start : s.stop] for r, s in zip(rows, seen, strict=True)]
            probabilities = torch.softmax(read(seen[axis].start, seen[axis].stop).float(), 0)
            planes = apply_along_axes(probabilities[None], weights)[0]
        if planes.isnan().any():
            raise BadBundle(
                "The network answers with what is no number; copy its bundle again, export it again, "
                "or compute in float32."
            )
        written.narrow(axis, start, stop - start).copy_(planes.argmax(0))
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
