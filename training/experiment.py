"""What an experiment is made of: variants to compare, on how many cases and with which seeds, and how they are tested.

Read from a YAML file; the list of its runs follows from it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ScaleEquivSegLib.layers.maps import ScaleAxis

from .cases import VALIDATION
from .config import BadConfig, CaseData, Config, load_config, read_settings, read_yaml, typed
from .run_folder import deciding

EXPERIMENTS = Path(__file__).parent / "experiments"


@dataclass(frozen=True)
class Variant:
    """What is compared: how it differs from the base in training, and from the others in the test."""

    name: str
    overrides: tuple[str, ...] = ()
    """`network.name=unet`, as on the command line. Variants that are trained alike are trained once."""
    scale_axis: ScaleAxis | None = None
    """The scales at the test, if not the network's own."""
    native_voxels: bool = False
    """Tested on voxels as they are, see `CaseData`."""


@dataclass(frozen=True)
class Experiment:
    """Every variant, trained on every number of cases with every seed."""

    name: str
    base: Path
    """The configuration that the variants change, beside the experiment's file."""
    variants: tuple[Variant, ...]
    reference: str
    """The variant that the others are compared with, case by case."""
    sizes: tuple[int, ...] = (0,)
    """Numbers of cases to train on; 0 for all."""
    seeds: tuple[int, ...] = (0, 1, 2)
    split: str = VALIDATION
    scales: tuple[float, ...] = (1.0,)
    """Factors by which the cases of the test are magnified."""

    def __post_init__(self) -> None:
        names = [slug(variant.name) for variant in self.variants]
        if doubles := sorted({name for name in names if names.count(name) > 1}):
            raise BadConfig(f"{self.name} has two variants called {', '.join(doubles)}")
        if split := [variant.name for variant in self.variants if "," in variant.name]:
            raise BadConfig(f"{self.name}: {split[0]!r} has a comma, which stands between names in --only")
        if self.reference not in {variant.name for variant in self.variants}:
            raise BadConfig(f"{self.name} has no variant {self.reference!r} to compare with")


@dataclass(frozen=True)
class Run:
    """One variant, trained on so many cases with one seed."""

    experiment: Experiment
    variant: Variant
    size: int
    seed: int

    @property
    def name(self) -> str:
        """Good for a file's name, too."""
        return f"{slug(self.variant.name)}_{self._part}"

    @property
    def _part(self) -> str:
        return f"n{self.size or 'all'}_s{self.seed}"

    @property
    def overrides(self) -> list[str]:
        return [*self.variant.overrides, f"data.train={self.size}", f"fit.seed={self.seed}"]

    def settings(self) -> dict[str, Any]:
        """What the training is asked to do, in full and with the card's text: a default that changes makes it another
        training. As JSON can hold it, of paths the names alone."""
        config = self._config()
        settings = {**asdict(config), "card": read_settings(config.card)}
        of_json: dict[str, Any] = json.loads(json.dumps(settings, default=lambda path: path.name))
        return of_json

    def test(self) -> dict[str, Any]:
        """What the test was asked to do."""
        axis = self.variant.scale_axis
        return {
            "split": self.experiment.split,
            "scales": list(self.experiment.scales),
            "scale_axis": asdict(axis) if axis else None,
            "native_voxels": self.variant.native_voxels,
        }

    def config(self, data: Path) -> Config:
        """The training's configuration."""
        config = self._config()
        if not isinstance(config.data, CaseData):
            raise BadConfig(f"{self.experiment.base} must train on cases, not on generated phantoms")
        return replace(config, data=replace(config.data, folder=data))

    def _config(self) -> Config:
        """Wherever the data lie, and on one device: side by side, processes do several runs."""
        config = load_config(self.experiment.base, self.overrides)
        return replace(config, compute=replace(config.compute, devices=1, nodes=1))

    def training(self) -> str:
        """A name that two runs share if their trainings are the same."""
        settings = self.settings()
        digest = hashlib.sha256(json.dumps(deciding(settings), sort_keys=True).encode()).hexdigest()
        return f"{settings['network']['name']}_{self._part}_{digest[:10]}"


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return re.sub(r"[^\w.]+", "-", name).strip("-")


def find_experiment(name: str) -> Path:
    """The file of an experiment of ours by name, or any by path."""
    path = Path(name) if name.endswith(".yaml") else EXPERIMENTS / f"{name}.yaml"
    if not path.exists():
        known = sorted(each.stem for each in EXPERIMENTS.glob("*.yaml") if not each.stem.endswith(".base"))
        raise BadConfig(f"there is no experiment {name}; known: {', '.join(known)}, or give the path of a .yaml file")
    return path


def read_experiment(path: Path) -> Experiment:
    """Read an experiment's file, whose name is the experiment's."""
    experiment = typed(Experiment, {"name": path.stem, **read_yaml(path)})
    return replace(experiment, base=path.parent / experiment.base)


def runs_of(
    experiment: Experiment, only: Sequence[str] = (), sizes: Sequence[int] = (), seeds: Sequence[int] = ()
) -> list[Run]:
    """The runs in the order in which they are worth having, or some of them.

    The first seed of all variants and sizes is a comparison; further seeds say how far to trust it.
    """
    known = {variant.name: variant for variant in experiment.variants}
    if unknown := [name for name in only if name not in known]:
        raise BadConfig(f"{experiment.name} has no variant {', '.join(unknown)}; known: {', '.join(known)}")
    return [
        Run(experiment, variant, size, seed)
        for seed in seeds or experiment.seeds
        for size in sizes or experiment.sizes
        for variant in ([known[name] for name in only] or experiment.variants)
    ]
