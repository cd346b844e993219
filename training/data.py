"""Training data: phantoms made on the spot, cropped around the structure and augmented with MONAI."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from monai.data import DataLoader, Dataset

from ScaleEquivSegLib.bundles import Channel
from ScaleEquivSegLib.inference import WorkingImage
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.segmentation import normalisation

from .config import FitConfig, PhantomData

Case = dict[str, Any]
"""`image` (channel, x, y, z) normalised as at inference, `label` (1, x, y, z)."""


def phantom_cases(count: int, first_seed: int, data: PhantomData, inputs: tuple[Channel, ...]) -> list[Case]:
    """Generate phantoms with consecutive seeds, each of a random size within the configured range."""
    cases = []
    for seed in range(first_seed, first_seed + count):
        scale = float(np.random.default_rng(seed).uniform(*data.scale))
        phantom = make_phantom(PhantomSpec(seed=seed, scale=scale, channels=data.channels))
        bounds = [normalisation(v.array, c) for v, c in zip(phantom.channels, inputs, strict=True)]
        image = WorkingImage([v.array for v in phantom.channels], *zip(*bounds, strict=True))
        cases.append(
            {
                "image": image.whole(),
                "label": torch.from_numpy(phantom.labels.array.transpose(2, 1, 0)[None].copy()),
            }
        )
    return cases


def training_loader(cases: list[Case], fit: FitConfig) -> DataLoader:
    """Endless enough for all steps: random crops that hold the structure, random poses and intensities."""
    keys = ["image", "label"]
    augment = mt.Compose(
        [
            mt.RandCropByPosNegLabeld(keys, "label", (fit.crop,) * 3, pos=1, neg=1, num_samples=1),
            *(mt.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(3)),
            mt.RandRotate90d(keys, prob=0.75, max_k=3, spatial_axes=(0, 1)),
            mt.RandRotate90d(keys, prob=0.75, max_k=3, spatial_axes=(1, 2)),
            mt.RandScaleIntensityd("image", factors=0.1, prob=0.5),
            mt.RandShiftIntensityd("image", offsets=0.1, prob=0.5),
            mt.RandGaussianNoised("image", prob=0.5, std=0.05),
        ]
    )
    draws = torch.randint(len(cases), (fit.steps * fit.batch,)).tolist()
    return DataLoader(Dataset([cases[i] for i in draws], augment), batch_size=fit.batch, num_workers=0)


def validation_loader(cases: list[Case]) -> DataLoader:
    """Whole volumes, one at a time, as they are."""
    return DataLoader(Dataset(cases), batch_size=1, num_workers=0)
