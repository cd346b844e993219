"""Random samples of labelled pictures: moved, turned, mirrored, and changed in brightness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from ScaleEquivSegLib.bundles import Channel
from ScaleEquivSegLib.classification import working_picture
from ScaleEquivSegLib.errors import UnsuitableVolume
from ScaleEquivSegLib.inputs import checked_image

from .augmentation import Sample, looks, magnification, most_rotation, plain
from .cases import BadData
from .config import Augmentation, BadConfig, CaseData, Config, FitConfig
from .pictures import LabelledPicture, chosen_pictures
from .splits import Chosen

MOST_SHIFT = 0.1
"""Pictures are moved by up to this share of their side, alike for all networks; what enters repeats the edge."""
VALIDATED_AT_ONCE = 16


@dataclass(frozen=True)
class PictureTask:
    """What a card says of the pictures and classes of its networks."""

    inputs: tuple[Channel, ...]
    classes: tuple[str, ...]
    size: int

    @staticmethod
    def from_card(card: Mapping[str, Any]) -> PictureTask:
        inputs = tuple(Channel.from_card(entry) for entry in card["inputs"])
        return PictureTask(inputs, tuple(entry["name"] for entry in card["classes"]), card["size"])


@dataclass(frozen=True, eq=False)
class PictureExample:
    """A picture in memory as a network will see it, (channel, i, j), and the number of its class."""

    image: Tensor
    label: int


def picture_examples(
    config: Config, task: PictureTask
) -> tuple[list[PictureExample], list[PictureExample], Chosen[LabelledPicture]]:
    """The examples to train on and to validate on, and the pictures that they are of."""
    if not isinstance(config.data, CaseData):
        raise BadConfig("a classifier is trained on pictures: data.folder=FOLDER")
    _check_settings(config)
    chosen = chosen_pictures(config.data, task.classes, config.fit.seed)
    found = prepared([*chosen.training, *chosen.validation], task, config.data.folder or Path())
    return found[: len(chosen.training)], found[len(chosen.training) :], chosen


def _check_settings(config: Config) -> None:
    """Refuse settings that change nothing here."""
    fit = replace(config.fit, crop=FitConfig.crop, scale_window=FitConfig.scale_window)
    if config != replace(config, fit=fit, augmentation=replace(config.augmentation, beyond=Augmentation.beyond)):
        raise BadConfig("pictures do not know the settings fit.crop, fit.scale_window and augmentation.beyond")


def prepared(pictures: Iterable[LabelledPicture], task: PictureTask, source: Path) -> list[PictureExample]:
    """Pictures as the engine shows them; all that it would refuse is told at once."""
    problems: list[str] = []
    found = []
    for picture in pictures:
        try:
            volume = checked_image(task.inputs[0], picture.volume, False, [])
            found.append(PictureExample(working_picture(volume, task), task.classes.index(picture.of_class)))
        except UnsuitableVolume as error:
            problems.append(f"case {picture.name}: {error}")
    if problems:
        raise BadData(source, problems)
    return found


class PictureAugmenter:
    """Makes random samples of pictures."""

    def __init__(self, how: Augmentation) -> None:
        self.how = how
        self.looks = looks(how)

    def __call__(self, example: PictureExample, random: np.random.Generator) -> Sample:
        # Where each pixel of the sample lies in the picture, from -1 to 1: the matrix of `affine_grid`.
        shift = random.uniform(-2 * MOST_SHIFT, 2 * MOST_SHIFT, (2, 1))
        place = np.concatenate([self._pose(random), shift], 1)[None].astype(np.float32)
        grid = F.affine_grid(torch.from_numpy(place), [1, *example.image.shape], align_corners=False)
        image = F.grid_sample(example.image[None], grid, "bilinear", "border", align_corners=False)[0]
        self.looks.set_random_state(seed=int(random.integers(2**31)))
        return {"image": plain(self.looks(image)), "label": example.label}

    def _pose(self, random: np.random.Generator) -> np.ndarray:
        angle = np.radians(random.uniform(-1, 1) * most_rotation(self.how, random))
        if self.how.quarter_turns:
            angle += random.integers(4) * np.pi / 2
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        # `affine_grid` counts the axes backwards: i, which is left and right, comes second.
        flips = {"none": (1, 1), "left_right": (1, 2), "all": (2, 2)}[self.how.mirror]
        signs = [random.choice([1.0, -1.0][:choices]) for choices in flips]
        return turn * signs / magnification(self.how, random)


def picture_loader(of: Sequence[PictureExample]) -> DataLoader[Sample]:
    """All pictures as they are, in every process: ranks need them together."""
    whole: Any = [{"image": example.image, "label": example.label} for example in of]
    return DataLoader(whole, VALIDATED_AT_ONCE)
