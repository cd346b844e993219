"""Volumes in, labels on the first volume's own grid out: what the panel, the command line and scripts all call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from . import __version__
from .bundles import Bundle, Channel
from .errors import UnsuitableVolume
from .inference import DEFAULT_TILE, class_scores, load_network, pick_device
from .networks import SegmentationNetwork
from .volume import AxisOrder, Geometry, Volume, resample, working_geometry, write_volume

Progress = Callable[[str, float], None]
"""Called with the phase and the fraction of it that is done; stops the run by raising `Cancelled`."""


@dataclass(frozen=True)
class Model:
    """A bundle with its network loaded."""

    bundle: Bundle
    network: SegmentationNetwork


@dataclass(frozen=True)
class Settings:
    """How to compute; none of it changes the labels on one device."""

    device: str = "auto"
    tile: int = DEFAULT_TILE


@dataclass(frozen=True)
class Segmentation:
    """Labels on the input's own grid and what is worth knowing about how they came about."""

    labels: Volume
    bundle: Bundle
    ml: Mapping[str, float]
    seconds: float
    device: str
    warnings: tuple[str, ...] = field(default=())

    def provenance(self) -> dict[str, str]:
        """Where the labels come from, as strings for a file header."""
        return {
            "bundle": self.bundle.name,
            "bundle_version": self.bundle.version,
            "weights_sha256": self.bundle.sha256,
            "software": f"ScaleEquivSeg {__version__}",
            "torch": torch.__version__,
            "device": self.device,
        }


def load_model(bundle: Bundle) -> Model:
    """Load a bundle's network."""
    return Model(bundle, load_network(bundle))


def segment(
    channels: Sequence[Volume],
    model: Model,
    settings: Settings = Settings(),
    progress: Progress = lambda phase, fraction: None,
) -> Segmentation:
    """Segment a volume of one or several channels; the labels lie on the grid of the first."""
    started = time.monotonic()
    bundle = model.bundle
    device = pick_device(settings.device)
    progress("Preparing", 0.0)
    _check_channels(channels, bundle)
    geometry = channels[0].geometry
    order = AxisOrder.towards(geometry.direction, bundle.orientation)
    warnings: tuple[str, ...] = ()
    constant = [c.name for c, v in zip(bundle.inputs, channels, strict=True) if v.array.min() == v.array.max()]
    if constant:
        labels = np.zeros(geometry.shape, np.uint8)
        warnings = (f"{', '.join(constant)} has the same value everywhere; the segmentation is empty.",)
    else:
        upright = [order.apply(channel) for channel in channels]
        labels = order.undo(_label_upright(upright, model, device, settings, progress))
    return Segmentation(
        labels=Volume(labels, geometry),
        bundle=bundle,
        ml={label.name: float((labels == label.value).sum()) * geometry.voxel_ml for label in bundle.labels},
        seconds=time.monotonic() - started,
        device=str(device),
        warnings=warnings,
    )


def _label_upright(
    channels: Sequence[Volume], model: Model, device: torch.device, settings: Settings, progress: Progress
) -> np.ndarray:
    """Labels on the grid of volumes that are already in the bundle's orientation."""
    image, target = _working_image_upright(channels, model.bundle)
    scores = class_scores(
        model.network,
        image,
        device,
        lambda fraction: progress("Segmenting", fraction),
        settings.tile,
    )
    progress("Restoring the grid", 0.0)
    return _labels_on_grid(scores.transpose(0, 3, 2, 1), target, channels[0].geometry)


def working_image(channels: Sequence[Volume], bundle: Bundle) -> tuple[np.ndarray, Geometry]:
    """What a bundle's network is shown of volumes, (channel, x, y, z), and the grid it lies on."""
    order = AxisOrder.towards(channels[0].geometry.direction, bundle.orientation)
    return _working_image_upright([order.apply(channel) for channel in channels], bundle)


def _working_image_upright(channels: Sequence[Volume], bundle: Bundle) -> tuple[np.ndarray, Geometry]:
    target = working_geometry(channels[0].geometry, np.array(bundle.spacing))
    image = np.stack([normalised(resample(v, target).array, c) for v, c in zip(channels, bundle.inputs, strict=True)])
    return image.transpose(0, 3, 2, 1).copy(), target  # the networks count x, y, z; arrays are stored k, j, i


def _check_channels(channels: Sequence[Volume], bundle: Bundle) -> None:
    wanted = [channel.name for channel in bundle.inputs]
    if len(channels) != len(wanted):
        raise UnsuitableVolume(
            f"{bundle.name} takes {len(wanted)} volume(s) ({', '.join(wanted)}), got {len(channels)}."
        )
    for name, channel in zip(wanted, channels, strict=True):
        bad = channel.array.size - int(np.isfinite(channel.array).sum())
        if bad:
            raise UnsuitableVolume(
                f"{name} has {bad} voxels that are NaN or infinite; replace them by a number, then run again."
            )


def normalised(array: np.ndarray, channel: Channel) -> np.ndarray:
    """Map the channel's low and high percentile to 0 and 1, from a sample of at most about two million voxels."""
    step = max(1, round((array.size / 2e6) ** (1 / 3)))
    low, high = np.percentile(array[::step, ::step, ::step], channel.percentiles)
    return ((array - low) / max(high - low, 1e-6)).astype(np.float32)


def _labels_on_grid(scores: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    """The most probable class at every voxel of a grid: probabilities are interpolated first, then compared."""
    if source.agrees_with(target, tolerance_mm=1e-6):
        return scores.argmax(0).astype(np.uint8)
    probabilities = _softmax(scores)
    best = resample(Volume(probabilities[0], source), target).array
    labels = np.zeros(target.shape, np.uint8)
    for value in range(1, len(probabilities)):
        candidate = resample(Volume(probabilities[value], source), target).array
        better = candidate > best
        labels[better] = value
        best = np.maximum(best, candidate)
    return labels


def _softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max(0))
    return exponentials / exponentials.sum(0)


def write_segmentation(segmentation: Segmentation, path: Path, compress: bool = True) -> None:
    """Write labels as a `.seg.nrrd` that Slicer opens as a segmentation with names, colours and coded terms."""
    header = {f"ScaleEquivSeg_{key}": value for key, value in segmentation.provenance().items()}
    i, j, k = (int(n) - 1 for n in segmentation.labels.geometry.size)
    header["Segmentation_ContainedRepresentationNames"] = "Binary labelmap|"
    header["Segmentation_MasterRepresentation"] = "Binary labelmap"
    header["Segmentation_ReferenceImageExtentOffset"] = "0 0 0"
    for number, label in enumerate(segmentation.bundle.labels):
        prefix = f"Segment{number}_"
        header[prefix + "ID"] = f"Segment_{label.value}"
        header[prefix + "Name"] = label.name
        header[prefix + "NameAutoGenerated"] = "0"
        header[prefix + "Color"] = " ".join(f"{part / 255:.6f}" for part in label.color)
        header[prefix + "ColorAutoGenerated"] = "0"
        header[prefix + "LabelValue"] = str(label.value)
        header[prefix + "Layer"] = "0"
        header[prefix + "Extent"] = f"0 {i} 0 {j} 0 {k}"
        header[prefix + "Tags"] = f"TerminologyEntry:{label.terminology_tag}|"
    write_volume(segmentation.labels, path, header, compress)


def report(segmentation: Segmentation) -> dict[str, str | float]:
    """What a script wants to know of a finished segmentation, flat."""
    return {
        "bundle": segmentation.bundle.name,
        "sha256": segmentation.bundle.sha256,
        "seconds": segmentation.seconds,
        **{f"ml.{name}": value for name, value in segmentation.ml.items()},
    }
