"""Ratios of things measured side by side in one run. Nothing here is compared with another machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from . import networks, published, volumes, worker
from .case import Conditions, Figures

CASES: Mapping[str, Callable[[str, Conditions], Figures]] = {
    "published_vs_direct": published.forward,
    "published_step_vs_direct_step": published.step,
    "se_unet_vs_monai_unet": partial(networks.side_by_side, networks.forward),
    "se_unet_step_vs_monai_unet_step": partial(networks.side_by_side, networks.step),
    "voxel_cost_512_vs_64": volumes.thin_against_cube,
    "warm_segment_overhead_s": worker.warm_segment,
    "worker_start_vs_import_torch": worker.start,
}
"""Each gives figures whose keys begin with its name."""


def benchmark(names: Sequence[str], conditions: Conditions) -> Figures:
    """The figures of some cases; one that cannot be measured is an error."""
    figures: Figures = {}
    # As in the engine: float32 is float32 on every GPU.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
        for name in names:
            print(f"{name} ...", file=sys.stderr, flush=True)
            try:
                figures |= CASES[name](name, conditions)
            except Exception as error:
                error.add_note(f"The benchmark {name} failed.")
                raise
    return figures
