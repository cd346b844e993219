"""Random crops of examples: where they lie, how they are turned and mirrored, and how they look.

Everything random about a sample follows from the run's seed and the sample's number, so that a run that was stopped, or
is spread over processes, sees the same samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai import transforms as mt
from monai.networks.layers.convutils import gaussian_1d
from torch import Tensor

from ScaleEquivSegLib.bundles import left_right_axis

from .config import Augmentation
from .preparation import Example, Task

Sample = dict[str, Any]
"""`image` (channel, x, y, z), `label` (1, x, y, z), `unlabelled` (class): whether nobody looked for a class."""

BEYOND = ("zeros", "border", "reflection")
"""What a crop shows where it leaves the image: at inference an image may be cut anywhere, and lie in anything."""


class Augmenter:
    """Makes random samples of examples."""

    def __init__(self, task: Task, crop: tuple[int, int, int], how: Augmentation) -> None:
        self.crop = crop
        self.how = how
        spacing = np.array(task.spacing)
        self.in_voxels = spacing / spacing[:, None]
        self.left_right = left_right_axis(task.orientation)
        self.mirrored_classes = torch.tensor(task.mirrored_classes, dtype=torch.uint8)
        self.looks = looks(how)

    def __call__(self, example: Example, random: np.random.Generator) -> Sample:
        factor = magnification(self.how, random)
        turn, is_mirrored = self._turn(random)
        extent = np.array(self.crop) / factor
        centre = _centre(example, extent, random)
        if random.random() >= self.how.beyond:
            centre = _inside(centre, extent, np.array(example.label.shape[1:]))
        places = _places(centre, turn / factor, self.crop)
        image = _blurred(example.image, 1 / factor, places) if factor < 1 else example.image
        grid = _grid(places, image.shape[1:])
        beyond = BEYOND[random.integers(len(BEYOND))]
        image = F.grid_sample(image[None], grid, "bilinear", beyond, align_corners=True)[0]
        label = F.grid_sample(example.label[None].float(), grid, "nearest", beyond, align_corners=True)[0].byte()
        self.looks.set_random_state(seed=int(random.integers(2**31)))
        unlabelled = torch.zeros(len(self.mirrored_classes), dtype=torch.bool)
        unlabelled[list(example.unlabelled)] = True
        if is_mirrored:
            label, unlabelled = self.mirrored_classes[label.int()], unlabelled[self.mirrored_classes.int()]
        return {"image": plain(self.looks(image)), "label": label, "unlabelled": unlabelled}

    def _turn(self, random: np.random.Generator) -> tuple[np.ndarray, bool]:
        """A random pose, the matrix by which a sample's axes x, y, z lie in the image; whether left is right in it.

        It turns what lies there, in millimetres; of voxels of spacing S the matrix is S^-1 R S.
        """
        most = most_rotation(self.how, random)
        turn = _rotation(np.radians(random.uniform(-most, most, 3)))
        if self.how.quarter_turns:
            turn = turn @ _quarter_turn(random)
        axes = {"none": [], "left_right": [self.left_right], "all": [0, 1, 2]}[self.how.mirror]
        flips = np.ones(3)
        flips[axes] = random.choice([-1.0, 1.0], len(axes))
        turn = turn * flips
        return turn * self.in_voxels, bool(np.linalg.det(turn) < 0)


def most_rotation(how: Augmentation, random: np.random.Generator) -> float:
    """The degrees by which to rotate a sample at most."""
    return how.rotation if how.rotated == 1 or random.random() < how.rotated else 0.0


def magnification(how: Augmentation, random: np.random.Generator) -> float:
    """The factor by which to magnify a sample."""
    if how.scaled < 1 and random.random() >= how.scaled:
        return 1.0
    if how.scale_drawn == "evenly":
        return float(random.uniform(*how.scale))
    return float(np.exp(random.uniform(*np.log(how.scale))))


def _centre(example: Example, extent: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The voxel around which to crop so much: near one of a random class, or anywhere, which is as likely as half of
    the classes together, rounded up: every second time with one class, every third with two."""
    shape = np.array(example.label.shape[1:])
    classes = [*[None] * -(-len(example.voxels) // 2), *example.voxels] or [None]
    chosen = classes[random.integers(len(classes))]
    if chosen is None:
        return random.integers(shape)
    voxels = example.voxels[chosen]
    shift = [random.integers(-(size // 4), size // 4 + 1) for size in extent.astype(int)]
    return voxels[random.integers(len(voxels))] + shift


def _inside(centre: np.ndarray, extent: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """The nearest place at which a crop lies in the image or, along axes where it is the longer, holds all of it."""
    low, high = np.sort([np.floor(extent / 2), shape - np.ceil(extent / 2)], axis=0)
    return np.clip(centre, low, high)


def _places(centre: np.ndarray, turn: np.ndarray, crop: tuple[int, int, int]) -> np.ndarray:
    """Where in the image each voxel of a crop lies, (x, y, z, 3), as indices."""
    offsets = np.stack(np.meshgrid(*(np.arange(n) - n // 2 for n in crop), indexing="ij"), -1)
    return offsets @ turn.T + centre


def _grid(places: np.ndarray, shape: Sequence[int]) -> Tensor:
    """The same, (1, x, y, z, 3), as `grid_sample` counts: -1 ... 1, z first."""
    positions = 2 * places / np.maximum(np.array(shape) - 1, 1) - 1
    return torch.from_numpy(positions[None, ..., ::-1].astype(np.float32))


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Turned about x, then y, then z."""
    total = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[[a, b], [a, b]] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        total = turn @ total
    return total


def _quarter_turn(random: np.random.Generator) -> np.ndarray:
    """One of the 24 ways to turn a cube onto itself."""
    turn = np.eye(3)[:, random.permutation(3)] * random.choice([-1.0, 1.0], 3)
    return turn * np.linalg.det(turn).round()


def _blurred(image: Tensor, coarser: float, places: np.ndarray) -> Tensor:
    """The image with no more detail than voxels larger by a factor can show; nothing where no place is near."""
    kernel = gaussian_1d(torch.tensor(0.4 * (coarser**2 - 1) ** 0.5)).tolist()
    cut = _shown(places, image.shape[1:], margin=len(kernel) // 2)
    blurred = torch.zeros_like(image)
    blurred[:, *cut] = _filtered(image[:, *cut], kernel)
    return blurred


def _shown(places: np.ndarray, shape: Sequence[int], margin: int) -> tuple[slice, ...]:
    """The part of an image that is shown at places, and a margin."""
    cut = []
    for axis, size in enumerate(shape):
        first, last = math.floor(places[..., axis].min()), math.ceil(places[..., axis].max())
        # What lies beyond the image may be its reflection.
        first, last = min(first, 2 * (size - 1) - last), max(last, -first)
        cut.append(slice(max(0, first - margin), last + margin + 1))
    return tuple(cut)


def _filtered(image: Tensor, kernel: Sequence[float]) -> Tensor:
    """Filtered along x, y and z, with zeros around. A sum of shifted images takes a third of a convolution's time."""
    for axis in (1, 2, 3):
        around = [0, 0] * (3 - axis) + 2 * [len(kernel) // 2]
        padded, size = F.pad(image, around), image.shape[axis]
        image = torch.zeros_like(image)
        for shift, weight in enumerate(kernel):
            image.add_(padded.narrow(axis, shift, size), alpha=weight)
    return image


def plain(image: Tensor) -> Tensor:
    """Without what MONAI notes of it: every operation of a network would carry that along, for a tenth more time."""
    return image.as_subclass(Tensor)


def looks(how: Augmentation) -> mt.Compose:
    """Random changes of how images look; where things are stays as it is."""
    return mt.Compose(list(_looks(how)))


def _looks(how: Augmentation) -> Iterator[mt.Transform]:
    if how.blur > 1:
        # Left to itself it takes voxels of lower indices: the image would be moved by up to 0.8 voxels, its labels not.
        yield mt.RandSimulateLowResolution(prob=0.3, zoom_range=(1 / how.blur, 1.0), downsample_mode="area")
    yield mt.RandBiasField(degree=2, coeff_range=(0.0, how.intensity), prob=0.3)
    yield mt.RandAdjustContrast(prob=0.3, gamma=(1 / (1 + 2 * how.intensity), 1 + 2 * how.intensity))
    yield mt.RandScaleIntensity(factors=how.intensity, prob=0.7)
    yield mt.RandShiftIntensity(offsets=how.intensity, prob=0.7)
    yield mt.RandGaussianNoise(prob=0.5, std=how.noise)
