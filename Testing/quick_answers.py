"""A threshold in the networks' place: what stands for the worker answers with it.
Run as a module this is the worker itself, but for the networks: a process that starts at once, and takes its time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ScaleEquivSegLib import answers, worker
from ScaleEquivSegLib.errors import UnsuitableVolume
from ScaleEquivSegLib.request import CompareRequest, Request, SegmentRequest, SweepRequest
from ScaleEquivSegLib.volume import Volume, read_volume, write_volume

NAMES = {1: "Head", 2: "Body"}
STEPS, SECONDS_PER_STEP = 10, 0.01


def quick_labels(array: np.ndarray) -> np.ndarray:
    """What is found in an image."""
    return (array > np.quantile(array, 0.8)).astype(np.uint8) + (array > np.quantile(array, 0.9))


def segmented(image: str | Path, output: str | Path, bundle: str | Path) -> dict[str, Any]:
    """The answer to a request to segment."""
    volume = read_volume(Path(image))
    if not np.isfinite(volume.array).all():
        raise UnsuitableVolume("The volume has values that are NaN or infinite.")
    found = Volume(quick_labels(volume.array), volume.geometry)
    write_volume(found, Path(output))
    ml = {name: found.geometry.voxel_ml * int((found.array == value).sum()) for value, name in NAMES.items()}
    return {"output": str(output), "ml": ml, "warnings": [], "provenance": {"bundle": str(bundle)}}


def swept(scales: Sequence[float], against_reference: bool, bundle: str | Path) -> dict[str, Any]:
    """The answer to a request to sweep, with figures that the scales decide."""
    at_scales = [
        {
            "scale": scale,
            "with_itself": {"Head": min(scale, 1 / scale), "Body": 1.0},
            "with_reference": {"Head": 0.5, "Body": 0.25} if against_reference else None,
        }
        for scale in scales
    ]
    name = Path(bundle).name
    origin = {"bundle_version": "1.0.0", "weights_sha256": f"weights of {name}", "input_voxels_sha256": "voxels"}
    return {"scales": at_scales, "bundle": name, **origin}


def _answer(request: Request, _models: Any, progress: answers.Progress) -> Mapping[str, Any]:
    progress("Starting", 0.0)
    for step in range(STEPS):
        progress("Segmenting", step / STEPS)
        time.sleep(SECONDS_PER_STEP)
    if isinstance(request, CompareRequest):
        return answers.answer(request, answers.Models(), progress)
    if isinstance(request, SegmentRequest):
        return segmented(request.inputs[0], request.output, request.bundle)
    if isinstance(request, SweepRequest):
        return swept(request.scales, request.reference is not None, request.bundle)
    return {"devices": [{"name": "cpu", "label": "CPU"}]}


if __name__ == "__main__":
    worker.answer = _answer  # type: ignore[assignment]
    worker.main()
