"""What the worker does for each kind of request, and what it says of the outcome: the same engine as the command line.
torch takes seconds to import: nothing here does before a request needs it, and comparing does not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bundles import Bundle, read_bundle
from .comparison import AGREEMENT_LABELS, ERROR_LABELS, agreement_map, compare
from .errors import OutputExists
from .label_files import read_comparable, read_reference, write_map
from .provenance import voxels_sha256
from .request import CompareRequest, DevicesRequest, Request, SegmentRequest, SweepRequest, instance_from
from .requirements import check_computing
from .volume import Volume, ending_of, read_image
from .whole_files import finite

if TYPE_CHECKING:
    from .segmentation import Model

MODELS_KEPT = 4
REGIONS_TOLD = 100

Answer = Mapping[str, Any]
Progress = Callable[[str, float], None]
"""Called with the phase and the fraction of it that is done; stops what is being done by raising `Cancelled`."""


class Models:
    """Bundles' networks, those used last kept for the next request."""

    def __init__(self) -> None:
        self.kept: dict[Path, Model] = {}

    def model(self, bundle: Bundle, progress: Progress) -> Model:
        """A bundle with its network, which is loaded again only if something in the folder changed."""
        from .segmentation import load_model

        model = self.kept.pop(bundle.folder, None)
        if model is None or model.bundle != bundle:
            progress("Loading the network", 0.0)
            model = load_model(bundle)
        self.kept[bundle.folder] = model
        while len(self.kept) > MODELS_KEPT:
            del self.kept[next(iter(self.kept))]  # the one that was not used for longest
        return model


def answer(request: Request, models: Models, progress: Progress) -> Answer:
    """Do what is asked; what is to be said of it."""
    progress("Starting", 0.0)
    if isinstance(request, CompareRequest):
        return _compare(request, progress)
    check_computing()
    if isinstance(request, SegmentRequest):
        return _segment(request, models, progress)
    if isinstance(request, SweepRequest):
        return _sweep(request, models, progress)
    assert isinstance(request, DevicesRequest)
    return _devices()


def _segment(request: SegmentRequest, models: Models, progress: Progress) -> Answer:
    from .segmentation import Settings, segment, write_segmentation

    settings = instance_from(request.settings, Settings)
    _check_output(request.output)
    model = models.model(read_bundle(request.bundle), progress)
    channels = _channels(request.inputs, progress)
    result = segment(channels, model, settings, progress, request.roi)
    progress("Writing", 0.0)
    write_segmentation(result, request.output, compress=False)
    return {
        "output": str(request.output),
        "ml": dict(result.ml),
        "warnings": list(result.warnings),
        "provenance": result.provenance(),
    }


def _sweep(request: SweepRequest, models: Models, progress: Progress) -> Answer:
    from .scale_sweep import scale_sweep
    from .segmentation import Settings

    settings = instance_from(request.settings, Settings)
    bundle = read_bundle(request.bundle)
    model = models.model(bundle, progress)
    channels = _channels(request.inputs, progress)
    reference = None if request.reference is None else read_reference(request.reference, channels[0], bundle)
    sweep = scale_sweep(channels, model, request.scales, reference, settings, progress, request.roi)
    return {
        "scales": [
            {"scale": at.scale, "with_itself": at.with_itself, "with_reference": at.with_reference} for at in sweep
        ],
        "bundle": bundle.name,
        "bundle_version": bundle.version,
        "weights_sha256": bundle.sha256,
        "input_voxels_sha256": " ".join(map(voxels_sha256, channels)),
    }


def _compare(request: CompareRequest, progress: Progress) -> Answer:
    def going_on(phase: str) -> Callable[[], None]:
        def told() -> None:
            progress(phase, 0.5)  # how far it is nobody can tell

        told()
        return told

    _check_output(request.output)
    (a, b), names, _ = read_comparable([request.a, request.b], request.names or None, going_on("Reading"))
    compared = compare(a, b, names, check=going_on("Comparing"))
    shown = agreement_map(a, b, check=going_on("Writing"))
    labels = ERROR_LABELS if request.against_reference else AGREEMENT_LABELS
    roles = ("a", "reference") if request.against_reference else ("a", "b")
    write_map(shown, request.output, labels, dict(zip(roles, (request.a, request.b), strict=True)), compress=False)
    return {
        "output": str(request.output),
        "figures": finite(compared.figures(0)),
        "regions": [{"ml": region.ml, "centre": list(region.centre)} for region in compared.regions[:REGIONS_TOLD]],
    }


def _devices() -> Answer:
    from .devices import devices_here

    return {"devices": [{"name": name, "label": label} for name, label in devices_here().items()]}


def _channels(paths: tuple[Path, ...], progress: Progress) -> list[Volume]:
    channels: list[Volume] = []
    for path in paths:
        progress("Reading", len(channels) / len(paths))
        channels.append(read_image(path))
    return channels


def _check_output(path: Path) -> None:
    ending_of(path)  # else an error
    if os.path.lexists(path):
        raise OutputExists(f"{path} exists; name a file that does not.")


def free_device_memory() -> None:
    """Give other programs the GPU's memory that PyTorch keeps between runs."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
