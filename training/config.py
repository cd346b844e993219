"""What a training run is made of, read from YAML and overridden from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml


@dataclass(frozen=True)
class NetworkConfig:
    """A network by name with the arguments its builder takes."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class PhantomData:
    """Phantoms generated for training and validation; no seed is used twice."""

    train: int = 96
    validation: int = 8
    channels: int = 1
    scale: tuple[float, float] = (0.9, 1.1)
    first_train_seed: int = 0
    first_validation_seed: int = 100_000


@dataclass(frozen=True)
class FitConfig:
    """How long, how fast and on what pieces to train."""

    seed: int = 0
    steps: int = 600
    batch: int = 2
    crop: int = 48
    learning_rate: float = 6e-3
    weight_decay: float = 1e-4
    scale_window: int = 0
    """Train on this many neighbouring scales of the axis, a random choice at each step; 0 for all of them."""
    first_temperature: float = 30.0
    """Dynamic layers mix their kernels with a temperature that falls from this to 1 in the first half of the steps."""
    load_balance: float = 0.01
    """Weight, in the loss, of how unevenly dynamic layers use their kernels."""
    checkpoint_every: int = 50


@dataclass(frozen=True)
class Config:
    """A whole run: the card's text, the network, the data and the schedule."""

    card: Path
    network: NetworkConfig
    data: PhantomData = field(default_factory=PhantomData)
    fit: FitConfig = field(default_factory=FitConfig)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file; each override `fit.steps=10` replaces one value. The card's path is relative to the file."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"{override!r} is not of the form key=value")
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = yaml.safe_load(text)
    config = _build(Config, values, "")
    assert isinstance(config, Config)
    return Config(path.parent / config.card, config.network, config.data, config.fit)


def _build(kind: type, values: dict[str, Any], where: str) -> Any:
    """Make a dataclass of nested dictionaries, refusing keys it does not have."""
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown setting(s) {', '.join(where + key for key in unknown)}")
    hints = get_type_hints(kind)
    built = {}
    for key, value in values.items():
        if is_dataclass(hints[key]):
            value = _build(hints[key], value, f"{where}{key}.")
        elif hints[key] is Path:
            value = Path(value)
        elif isinstance(value, list):
            value = tuple(value)
        built[key] = value
    return kind(**built)
