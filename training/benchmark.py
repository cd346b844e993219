"""Benchmarks: ratios of things measured side by side in one run. Nothing here is compared with another machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ScaleEquivSegLib.bundles import bundled_models, read_bundle
from ScaleEquivSegLib.volume import Volume, make_geometry

Figures = dict[str, float]

SMALL = (128, 128, 128)
LARGE = (800, 512, 512)
"""Shapes (k, j, i) as arrays are stored."""


def engine(bundle: Path | None = None) -> Figures:
    """What a large volume takes: memory over interpreter and libraries, and time per voxel against a small volume's.

    Each is segmented in a process of its own, the small one before and after.
    """
    folder = bundle or bundled_models() / "phantom-se_unet"
    runs = [_in_own_process(folder, shape) for shape in (SMALL, LARGE, SMALL)]
    before, large, after = (run["seconds_per_voxel"] for run in runs)
    return {
        "peak_gib_512x512x800": runs[1]["peak_gib"],
        "voxel_cost_800_vs_128": large / ((before + after) / 2),
        "voxel_cost_128_after_vs_before": after / before,
    }


def _in_own_process(bundle: Path, shape: tuple[int, int, int]) -> Figures:
    command = [sys.executable, "-m", "training.benchmark", str(bundle), *map(str, shape)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: Figures = json.loads(finished.stdout)
    return figures


def measure(bundle: Path, shape: tuple[int, int, int]) -> Figures:
    """Segment a noisy volume once; seconds per voxel, and how far the process grew meanwhile."""
    from ScaleEquivSegLib.segmentation import Settings, load_model, segment

    model = load_model(read_bundle(bundle))
    spacing = model.bundle.spacing
    segment([_noise((16, 16, 16), spacing)], model, Settings("cpu"))  # libraries load what they load on first use
    at_start = _status_gib("VmRSS")
    volume = _noise(shape, spacing)
    started = time.monotonic()
    segment([volume], model, Settings("cpu"))
    seconds = time.monotonic() - started
    return {"seconds_per_voxel": seconds / volume.array.size, "peak_gib": _status_gib("VmHWM") - at_start}


def _noise(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Volume:
    generator = np.random.default_rng(0)
    block = generator.integers(0, 1000, (16, *shape[1:]), dtype=np.int16)
    array = np.concatenate([block] * -(-shape[0] // 16))[: shape[0]]
    return Volume(array, make_geometry((shape[2], shape[1], shape[0]), spacing, np.eye(3), (0, 0, 0)))


def _status_gib(key: str) -> float:
    """A line of Linux's account of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 2**20


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), tuple(map(int, sys.argv[2:])))))  # type: ignore[arg-type]
