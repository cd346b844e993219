"""Small pictures of three made-up classes, and tiny classifiers of them, trained or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ScaleEquivSegLib.bundles import Bundle, read_bundle
from ScaleEquivSegLib.classification import classify, load_classifier
from ScaleEquivSegLib.layers.groups import finite_group
from ScaleEquivSegLib.networks import CLASSIFIERS
from ScaleEquivSegLib.volume import Volume, make_geometry
from training.config import Config, load_config
from training.export import export_bundle, network_arguments, read_card_text

CONFIGS = Path(__file__).parents[1] / "training" / "configs"
FAMILIES = ("plain", "static", "dynamic")
CLASSES = ("benign", "malignant", "normal")
TINY = [
    *("network.arguments.channels=[2, 3]", "augmentation.intensity=0.05", "augmentation.noise=0.02"),
    *("fit.steps=24", "fit.batch=8", "fit.checkpoint_every=6", "fit.learning_rate=0.03"),
]


def blob_and_bars(label: int, random: np.random.Generator, shape: tuple[int, int] = (20, 20)) -> np.ndarray:
    """A picture of a disc, of bars, or of nothing, in noise."""
    y, x = np.indices(shape)
    shown = [np.hypot(y - shape[0] / 2, x - shape[1] / 2) < 6, (x + random.integers(4)) % 4 < 2, x < 0][label]
    return np.clip(120 * shown + random.normal(60, 15, shape), 0, 255).astype(np.uint8)


def picture(shape: tuple[int, int] = (20, 20), spacing: tuple[float, float] = (1.0, 1.0), thin: int = 2) -> Volume:
    """Of the rows and columns that a slice has, the slice lying across i, j or k."""
    array = blob_and_bars(1, np.random.default_rng(5), shape)
    size, spacings = [shape[1], shape[0]], list(spacing)
    size.insert(thin, 1)
    spacings.insert(thin, 2.0)
    geometry = make_geometry((size[0], size[1], size[2]), spacings, np.eye(3), (5, 6, 7))
    return Volume(array.reshape(geometry.shape), geometry)


def save_archive(path: Path, **changes: Any) -> Path:
    """24 pictures of three classes, pairs of which are one group; two of three groups are for training."""
    random, labels = np.random.default_rng(0), np.repeat([0, 1, 2], 8)
    group = np.arange(24) // 2
    arrays = {
        "images": np.stack([blob_and_bars(label, random) for label in labels]),
        "labels": labels.astype(np.uint8),
        "names": np.array([f"case {n}" for n in range(24)]),
        "class_names": np.array(CLASSES),
        "group": group,
        "split": np.where(group % 3 == 2, "val", "train"),
    }
    np.savez(path, **{key: value for key, value in {**arrays, **changes}.items() if value is not None})
    return path


def small_config(folder: Path, family: str = "dynamic", *overrides: str) -> Config:
    """A configuration of ours with a tiny network that looks at 16 pixels a side."""
    card = folder / "tiny.card.yaml"
    card.write_text((CONFIGS / "breast_ultrasound.card.yaml").read_text().replace("size: 64", "size: 16"))
    config = load_config(CONFIGS / f"breast_ultrasound_{family}.yaml", [*TINY, *overrides])
    return replace(config, card=card)


def untrained_bundle(folder: Path, family: str = "dynamic") -> Bundle:
    """A bundle with random weights, whose probabilities differ from picture to picture."""
    torch.manual_seed(0)
    config = small_config(folder, family)
    network = CLASSIFIERS[config.network.name](network_arguments(config, read_card_text(config.card)))
    with torch.no_grad():
        network.head.weight *= 20
    export_bundle(network, config, "test", {}, folder / family)
    return read_bundle(folder / family)


def answers_in_every_pose(bundle: Bundle) -> np.ndarray:
    """The probabilities (pose, class) of a picture of oblong pixels, turned by quarters and mirrored."""
    model, seen, group = load_classifier(bundle), picture((20, 27), (0.9, 0.7)), finite_group("p4m")
    answers = []
    for element in range(group.order):
        array = group.act_on_image(element, torch.from_numpy(seen.array[0].copy())).numpy()
        spacing = (0.9, 0.7, 1) if array.shape == (20, 27) else (0.7, 0.9, 1)
        geometry = make_geometry((array.shape[1], array.shape[0], 1), spacing, np.eye(3), (0, 0, 0))
        answers.append([*classify(Volume(array[None], geometry), model, "cpu").probabilities.values()])
    return np.array(answers)
