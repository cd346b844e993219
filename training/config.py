"""What a training run is made of, read from YAML and overridden from the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from ScaleEquivSegLib.errors import SegmentationError

T = TypeVar("T")


class BadConfig(SegmentationError):
    """A configuration, an experiment or a setting on the command line that cannot be used."""

    exit_code = 12


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
class CaseData:
    """Labelled cases on disk, in one of the layouts of `cases.py`."""

    folder: Path | None = None
    """A folder, or a table of paths. No configuration knows where it is: `data.folder=...` on the command line."""
    train: int = 0
    """Train on so many cases, drawn by the seed; 0 for all."""
    splits: Path | None = None
    """A table with the columns `case` and `split`, if the data name no splits or others than wanted. Its path is
    relative to the configuration, as that of the card is."""
    validation: float = 0.15
    """The share of the cases for training to validate on instead, where the data name none for that."""
    classes: tuple[tuple[int, ...], ...] = ()
    """For each label of the card the values in the files that mean it; the card's own values if none are given."""
    background: tuple[int, ...] = (0,)
    """The values in the files that mean none of the classes."""
    absent_is_unlabelled: bool = False
    """A class that a case has no voxel of was not contoured in it: the loss does not ask for it."""
    native_voxels: bool = False
    """Show the voxels as they are, each as if it had the card's spacing: objects then differ in size as voxels do."""


@dataclass(frozen=True)
class Augmentation:
    """How much a crop may differ from what was scanned. Only `scale` changes the size of things."""

    mirror: Literal["none", "left_right", "all"] = "all"
    quarter_turns: bool = False
    rotation: float = 0.0
    """Degrees about each axis, at most."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Magnify by a factor from this range, all octaves alike likely."""
    blur: float = 1.0
    """Show some crops as if scanned with voxels up to so many times larger."""
    intensity: float = 0.1
    """By how much of its range brightness and contrast vary."""
    noise: float = 0.05


@dataclass(frozen=True)
class FitConfig:
    """How long, how fast and on what pieces to train."""

    seed: int = 0
    steps: int = 600
    batch: int = 2
    crop: tuple[int, int, int] = (48, 48, 48)
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = 6e-3
    weight_decay: float = 1e-4
    schedule: Literal["one_cycle", "step"] = "one_cycle"
    """The learning rate rises to what is set here and falls to nothing, or it begins there and falls step by step."""
    decay: float = 0.95
    """With the schedule `step`: the learning rate is multiplied by this ..."""
    decay_every: int = 250
    """... after each so many steps, say a round of the training cases."""
    gradient_clip: float = 1.0
    """A longer gradient is shortened to this length."""
    scale_axis: dict[str, Any] | None = None
    """The scales to train on, where not all of the network's: it may be given more at inference, at no cost here."""
    scale_window: int = 0
    """Train on this many neighbouring scales of the axis, a random choice at each step; 0 for all of them."""
    first_temperature: float = 30.0
    """Dynamic layers mix their kernels with a temperature that falls from this to 1 in the first half of the steps."""
    load_balance: float = 0.01
    """Weight, in the loss, of how unevenly dynamic layers use their kernels."""
    checkpoint_every: int = 50
    """Steps after which a checkpoint is written; a run that was stopped goes on from the last one."""
    validate_every: int = 500


@dataclass(frozen=True)
class ComputeConfig:
    """Where and in how many processes to compute. All that a run may go on with other than it began."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 0
    """Processes on each machine, each with a GPU of its own; 0 for one per GPU, or a single one without GPUs."""
    nodes: int = 1
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    workers: int = 0
    """Processes that prepare samples, for each that trains; 0 to prepare them where they are used."""


@dataclass(frozen=True)
class Config:
    """A whole run: the card's text, the network, the data, the schedule and the machines."""

    card: Path
    network: NetworkConfig
    name: str = ""
    """Of the bundle; that of the task and the network if empty. No two bundles in the panel have one name."""
    data: PhantomData | CaseData = field(default_factory=PhantomData)
    augmentation: Augmentation = field(default_factory=Augmentation)
    fit: FitConfig = field(default_factory=FitConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file; each override `fit.steps=10` replaces one value. The card's path is relative to the file."""
    config = typed(Config, read_settings(path, overrides))
    data = config.data
    if isinstance(data, CaseData) and data.splits:
        data = replace(data, splits=path.parent / data.splits)
    card = path.parent / config.card
    if not card.is_file():
        raise BadConfig(f"there is no card {card}")
    return replace(config, card=card, data=data)


def read_settings(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a YAML file and overrides say, without what they leave to the defaults."""
    values = read_yaml(path)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise BadConfig(f"{override!r} is not of the form key=value")
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise BadConfig(f"{override!r} asks for a setting inside {parent}, which is a value")
        place[last] = _parsed(text, override)
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a file of YAML."""
    try:
        values = _parsed(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise BadConfig(f"{path} has no settings of the form `key: value`")
    return values


def _parsed(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadConfig(f"{where} is no YAML: {' '.join(str(error).split())}") from error


def typed(kind: type[T], values: Any) -> T:
    """Nested dictionaries, as YAML gives them, as a dataclass."""
    made: T = _dataclass(kind, values, "")
    return made


def labelling(values: Mapping[str, Any]) -> CaseData:
    """What the values in label files mean, how voxels are shown and which share is held out, of a bundle's record of
    its training data."""
    known = ["classes", "background", "absent_is_unlabelled", "native_voxels"]
    if "folder" in values:  # for phantoms it is a number of them
        known.append("validation")
    return typed(CaseData, {key: values[key] for key in known if key in values})


def _value(kind: Any, value: Any, where: str) -> Any:
    """A value of YAML as the type that a field is declared with."""
    if isinstance(kind, UnionType):
        return _one_of(get_args(kind), value, where)
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise BadConfig(f"{where} is {value!r}, and may be {', '.join(map(repr, get_args(kind)))}")
        return value
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind), value, where)
    if kind is float and isinstance(value, int):
        return float(value)
    plain = get_origin(kind) or kind
    if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
        raise BadConfig(f"{where} is {value!r}, and must be of type {plain.__name__}")
    return value


def _one_of(kinds: Sequence[Any], value: Any, where: str) -> Any:
    """Of several dataclasses the first that has all the keys, or nothing."""
    if value is None and type(None) in kinds:
        return None
    kinds = [kind for kind in kinds if kind is not type(None)]
    for kind in kinds[:-1]:
        if is_dataclass(kind) and isinstance(value, dict) and set(value) <= {f.name for f in fields(kind)}:
            return _value(kind, value, where)
    return _value(kinds[-1], value, where)


def _tuple(kinds: Sequence[Any], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise BadConfig(f"{where} is {value!r}, and must be a list")
    if len(kinds) == 2 and kinds[1] is ...:
        kinds = [kinds[0]] * len(value)
    if len(kinds) != len(value):
        raise BadConfig(f"{where} has {len(value)} entries, and must have {len(kinds)}")
    return tuple(_value(kind, entry, where) for kind, entry in zip(kinds, value, strict=True))


def _dataclass(kind: Any, values: Any, where: str) -> Any:
    """Make a dataclass of nested dictionaries, refusing keys it does not have."""
    if not isinstance(values, dict):
        raise BadConfig(f"{where} is {values!r}, and must have settings of its own")
    inner = f"{where}." if where else ""
    if unknown := sorted(set(values) - {f.name for f in fields(kind)}):
        raise BadConfig(f"unknown setting(s) {', '.join(inner + key for key in unknown)}")
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [key for key in needed if key not in values]:
        raise BadConfig(f"missing setting(s) {', '.join(inner + key for key in missing)}")
    hints = get_type_hints(kind)
    typed_values = {key: _value(hints[key], value, inner + key) for key, value in values.items()}
    try:
        return kind(**typed_values)
    except ValueError as error:
        raise BadConfig(f"{where}: {error}") from error
