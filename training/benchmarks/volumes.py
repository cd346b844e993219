"""What volumes take through the engine by their size: time per voxel, and memory."""

from __future__ import annotations

import math

import numpy as np
import torch

from ScaleEquivSegLib.bundles import Bundle, bundled_models, read_bundle
from ScaleEquivSegLib.segmentation import Model, Settings, load_model, segment
from ScaleEquivSegLib.volume import Volume, make_geometry

from .case import CPU, Case, Conditions, Figures, Shape, Side, timed
from .memory import in_own_process, peak_gib

SMALL: Shape = (128, 128, 128)
LARGE: Shape = (800, 512, 512)


def bundled() -> Bundle:
    """The bundle whose network all volumes here are shown to."""
    return read_bundle(bundled_models() / "phantom-se_unet")


def thin_against_cube(name: str, conditions: Conditions) -> Figures:
    """Seconds per voxel of a volume with large slices, against those of a cube."""
    model = load_model(bundled())
    sides = (_per_voxel(model, shape, conditions.device) for shape in (conditions.thin, conditions.cube))
    case = Case(name, *sides)
    return case.ratios(case.pairs(conditions.repeats))


def _per_voxel(model: Model, shape: Shape, device: torch.device = CPU) -> Side:
    volumes = [noise(shape, model.bundle.spacing, channel) for channel in range(len(model.bundle.inputs))]
    return timed(lambda: segment(volumes, model, Settings(str(device))), device, math.prod(shape))


def engine() -> Figures:
    """Memory over interpreter and libraries, and time; each volume in a process of its own, the small one twice."""
    runs = [in_own_process(measure, bundled(), shape) for shape in (SMALL, LARGE, SMALL)]
    before, large, after = (run["seconds_per_voxel"] for run in runs)
    return {
        "peak_gib_512x512x800": runs[1]["peak_gib"],
        "voxel_cost_800_vs_128": large / ((before + after) / 2),
        "voxel_cost_128_after_vs_before": after / before,
    }


def measure(bundle: Bundle, shape: Shape) -> Figures:
    """Segment a volume of a bundle's voxels: seconds per voxel, how far the process grew with the volume itself."""
    model = load_model(bundle)
    _per_voxel(model, (16, 16, 16))()  # libraries load what they load on first use
    figures: Figures = {}

    def run() -> None:
        figures["seconds_per_voxel"] = _per_voxel(model, shape)()

    return {"peak_gib": peak_gib(run, CPU), **figures}


def noise(shape: Shape, spacing: tuple[float, float, float], seed: int = 0) -> Volume:
    """A volume of random numbers, the same sixteen planes over and over."""
    generator = np.random.default_rng(seed)
    block = generator.integers(0, 1000, (16, *shape[1:]), dtype=np.int16)
    array = np.concatenate([block] * -(-shape[0] // 16))[: shape[0]]
    return Volume(array, make_geometry((shape[2], shape[1], shape[0]), spacing, np.eye(3), (0, 0, 0)))
