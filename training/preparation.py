"""From labelled volumes to what a network is trained on: the grid and the values that it will see at inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ScaleEquivSegLib.bundles import Channel, Label, mirrored_classes
from ScaleEquivSegLib.errors import UnsuitableVolume
from ScaleEquivSegLib.labelmap import class_key, segment_names
from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom
from ScaleEquivSegLib.scaling import class_masks, largest
from ScaleEquivSegLib.segmentation import Preparation, working_image
from ScaleEquivSegLib.volume import AxisOrder, Geometry, Volume, read_volume, resample

from .cases import LabelledCase
from .config import CaseData, PhantomData
from .reading import read_channels


@dataclass(frozen=True)
class Task:
    """What a card says of the images and labels of its networks."""

    inputs: tuple[Channel, ...]
    labels: tuple[Label, ...]
    orientation: str
    spacing: tuple[float, float, float]

    @staticmethod
    def from_card(card: Mapping) -> Task:
        x, y, z = map(float, card["spacing"])
        return Task(
            tuple(Channel.from_card(entry) for entry in card["inputs"]),
            tuple(Label.from_card(entry) for entry in card["labels"]),
            card["orientation"],
            (x, y, z),
        )

    @property
    def mirrored_classes(self) -> tuple[int, ...]:
        """For each class, the background first, the one that a mirror shows it as."""
        return mirrored_classes(self.labels)


@dataclass(frozen=True, eq=False)
class Example:
    """A case in memory: image (channel, x, y, z) as at inference, label (1, x, y, z) of classes.

    `unlabelled` are the classes that nobody looked for in it: where its label is background, they may be.
    """

    name: str
    image: Tensor
    label: Tensor
    unlabelled: tuple[int, ...] = ()

    @cached_property
    def voxels(self) -> dict[int, np.ndarray]:
        """Of each class but the background that is there the indices (voxel, 3), small: there are many of them."""
        label = self.label[0].numpy()
        return {value: np.argwhere(label == value).astype(np.int16) for value in np.unique(label).tolist() if value}


def prepare(
    name: str, channels: Sequence[Volume], labels: Volume, task: Task, unlabelled: tuple[int, ...] = ()
) -> Example:
    """Bring a case to the task's grid; its labels as masks, interpolated, of which the largest wins."""
    image, grid = working_image(channels, task)
    order = AxisOrder.towards(channels[0].geometry.direction, task.orientation)
    upright = order.apply(labels)
    label = labels_on(upright, grid, len(task.labels))
    return Example(name, image.whole(), torch.from_numpy(label.transpose(2, 1, 0)[None].copy()), unlabelled)


def labels_on(labels: Volume, grid: Geometry, classes: int) -> np.ndarray:
    """The class of most of each voxel of a grid, (k, j, i)."""
    if labels.geometry.agrees_with(grid):
        return labels.array.astype(np.uint8)
    return largest(resample(mask, grid).array for mask in class_masks(labels, classes))


def in_native_voxels(volumes: Sequence[Volume], how: Preparation) -> list[Volume]:
    """The same voxels on a grid of the card's spacing, whatever they measure: nothing will be resampled."""
    geometry = volumes[0].geometry
    if not all(volume.geometry.agrees_with(geometry) for volume in volumes):
        raise UnsuitableVolume("Images and labels can be shown voxel by voxel only if they lie on one grid.")
    spacing = np.empty(3)
    spacing[list(AxisOrder.towards(geometry.direction, how.orientation).axes)] = how.spacing
    matrix = geometry.ijk_to_ras.copy()
    matrix[:3, :3] = geometry.direction * spacing
    return [Volume(volume.array, Geometry(geometry.shape, matrix)) for volume in volumes]


def phantom_examples(count: int, first_seed: int, data: PhantomData, task: Task) -> list[Example]:
    """Generate phantoms with consecutive seeds, each of a random size within the configured range."""
    examples = []
    for seed in range(first_seed, first_seed + count):
        scale = float(np.random.default_rng(seed).uniform(*data.scale))
        phantom = make_phantom(PhantomSpec(seed=seed, size=data.size, scale=scale, channels=data.channels))
        examples.append(prepare(f"phantom_{seed:06d}", phantom.channels, phantom.labels, task))
    return examples


def read_example(case: LabelledCase, data: CaseData, task: Task) -> Example:
    """Read a case and its labels."""
    channels = read_channels(case)
    labels = read_labels(case, data, task)
    if data.native_voxels:
        *channels, labels = in_native_voxels([*channels, labels], task)
    return prepare(case.name, channels, labels, task, unlabelled_classes(labels, data, task))


def unlabelled_classes(labels: Volume, data: CaseData, task: Task) -> tuple[int, ...]:
    """The classes that nobody looked for in a case."""
    if not data.absent_is_unlabelled:
        return ()
    present = set(np.unique(labels.array).tolist())
    return tuple(label.value for label in task.labels if label.value not in present)


def read_labels(case: LabelledCase, data: CaseData, task: Task) -> Volume:
    """The labels of a case as the card's classes."""
    return as_classes(read_volume(case.labels), data, task, segment_names(case.labels))


def as_classes(labels: Volume, data: CaseData, task: Task, names: Mapping[int, str]) -> Volume:
    """The values of a file, in which some may have names, as the card's classes."""
    classes = np.zeros(labels.array.shape, np.uint8)
    for value, meant in meanings(data, task, names).items():
        classes[labels.array == value] = meant
    return Volume(classes, labels.geometry)


def meanings(data: CaseData, task: Task, names: Mapping[int, str]) -> dict[int, int]:
    """The class that each value of a file means, 0 for background. Names that the file gives to its values count, and
    not what the values are, unless one of them is not that of a class and the data say what values mean."""
    class_of = {class_key(label.name): label.value for label in task.labels}
    known = {value: class_of[class_key(name)] for value, name in names.items() if class_key(name) in class_of}
    if not names or (data.classes and len(known) < len(names)):
        sources = enumerate(values_of_classes(data, task), start=1)
        known = {value: meant for meant, values in sources for value in values}
    return {**dict.fromkeys(data.background, 0), **known}


def values_of_classes(data: CaseData, task: Task) -> list[tuple[int, ...]]:
    """For each class of the card the values that mean it in the files."""
    return list(data.classes) or [(label.value,) for label in task.labels]
