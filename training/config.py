"""What a training run is made of, read from YAML and overridden from the command line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from ScaleEquivSegLib.errors import SegmentationError

T = TypeVar("T")


class BadConfig(SegmentationError):
    """A configuration, an experiment or a setting on the command line that cannot be used."""

    exit_code = 15


@dataclass(frozen=True)
class Must:
    """What a number, or several, must be, in words too."""

    be: str
    holds: Callable[[Any], bool]


Count = Annotated[int, Must("at least 1", lambda n: n >= 1)]
Number = Annotated[int, Must("at least 0", lambda n: n >= 0)]
Amount = Annotated[float, Must("a number from 0", lambda x: 0 <= x < math.inf)]
Positive = Annotated[float, Must("a number above 0", lambda x: 0 < x < math.inf)]
Factor = Annotated[float, Must("a number from 1", lambda x: 1 <= x < math.inf)]
Share = Annotated[float, Must("a number from 0 to 1", lambda x: 0 <= x <= 1)]
Range = Annotated[
    tuple[Positive, Positive], Must("in order, the smaller number first", lambda ends: ends[0] <= ends[1])
]


@dataclass(frozen=True)
class NetworkConfig:
    """A network by name with the arguments its builder takes."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class PhantomData:
    """Phantoms generated for training and validation; no seed is used twice."""

    channels: Count
    """Without a default: a configuration that does not name it trains on cases."""
    train: Count = 96
    validation: Number = 8
    scale: Range = (0.9, 1.1)
    size: tuple[Count, Count, Count] = (80, 80, 80)
    """Voxels of a phantom along its axes: how much there is around the structure. Smaller anatomy shows more of it."""
    first_train_seed: Number = 0
    first_validation_seed: Number = 100_000


@dataclass(frozen=True)
class CaseData:
    """Labelled cases on disk, in one of the layouts of `cases.py`."""

    folder: Path | None = None
    """A folder, or a table of paths. No configuration knows where it is: `data.folder=...` on the command line."""
    train: Number = 0
    """Train on so many cases, drawn by the seed; 0 for all."""
    splits: Path | None = None
    """A table with the columns `case` and `split`, if the data name no splits or others than wanted. In a configuration
    its path is relative to that file, as that of the card is."""
    validation: Share = 0.15
    """The share of the cases for training to validate on instead, where the data name none for that; with 0 there may
    be none, and the bundle then has no figures until `evaluate` notes some."""
    test: Share = 0.0
    """The share of the cases for training to test on, where the data name none for that: those whose names come last,
    neither trained on nor validated on."""
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
    """Only where voxels are as long along each axis: else a crop turned so would hold other anatomy in other detail."""
    rotation: Amount = 0.0
    """Degrees about each axis, at most."""
    rotated: Share = 1.0
    """The share of the crops that are rotated at all: what is rotated is smoothed by it, as no scan is."""
    scale: Range = (1.0, 1.0)
    """Magnify by a factor from this range."""
    scale_drawn: Literal["by_octave", "evenly"] = "by_octave"
    """Whether all octaves of the range are alike likely, or all its factors."""
    scaled: Share = 1.0
    """The share of the crops that are magnified at all."""
    beyond: Share = 0.25
    """The share of the crops that may lie beyond the border, as if the image were cut there or lay in a larger one; all
    others lie in the image, as far as they fit."""
    blur: Factor = 1.0
    """Show some crops as if scanned with voxels up to so many times larger."""
    intensity: Amount = 0.1
    """By how much of its range brightness and contrast vary."""
    noise: Amount = 0.05


@dataclass(frozen=True)
class FitConfig:
    """How long, how fast and on what pieces to train."""

    seed: Number = 0
    steps: Count = 600
    batch: Count = 2
    crop: tuple[Count, Count, Count] = (48, 48, 48)
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: Positive = 6e-3
    weight_decay: Amount = 1e-4
    schedule: Literal["one_cycle", "step"] = "one_cycle"
    """The learning rate rises to what is set here and falls to nothing, or it begins there and falls step by step."""
    decay: Positive = 0.95
    """With the schedule `step`: the learning rate is multiplied by this ..."""
    decay_every: Count = 250
    """... after each so many steps, say a round of the training cases."""
    gradient_clip: Positive = 1.0
    """A longer gradient is shortened to this length."""
    scale_window: Number = 0
    """Train on this many neighbouring scales of the network, a random choice at each step; 0 for all of them."""
    first_temperature: Positive = 30.0
    """Dynamic layers mix their kernels with a temperature that falls from this to 1 in the first half of the steps."""
    load_balance: Amount = 0.01
    """Weight, in the loss, of how unevenly dynamic layers use their kernels."""
    checkpoint_every: Count = 50
    """Steps after which a checkpoint is written; a run that was stopped goes on from the last one."""
    validate_every: Count = 500


@dataclass(frozen=True)
class ComputeConfig:
    """Where and in how many processes to compute. All that a run may go on with other than it began."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: Number = 0
    """Processes on each machine, each with a GPU of its own; 0 for one per GPU, or a single one without GPUs."""
    nodes: Count = 1
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    workers: Number = 0
    """Processes that prepare samples, for each that trains; 0 to prepare them where they are used."""


@dataclass(frozen=True)
class Config:
    """A whole run: the card's text, the network, the data, the schedule and the machines."""

    card: Path
    network: NetworkConfig
    name: str = ""
    """Of the bundle; that of the task and the network if empty. No two bundles in the panel have one name."""
    start: Path | None = None
    """A bundle with whose weights to begin, instead of random ones."""
    data: PhantomData | CaseData = field(default_factory=CaseData)
    augmentation: Augmentation = field(default_factory=Augmentation)
    fit: FitConfig = field(default_factory=FitConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file; each override `fit.steps=10` replaces one value. The card's path is relative to the file, and
    so is that of a table of splits which the file names."""
    config = typed(Config, read_settings(path, overrides))
    data = config.data
    is_overridden = any(override.startswith("data.splits=") for override in overrides)
    if isinstance(data, CaseData) and data.splits and not is_overridden:
        data = replace(data, splits=path.parent / data.splits)
    card = path.parent / config.card
    if not card.is_file():
        raise BadConfig(f"there is no card {card}")
    spacing = read_settings(card).get("spacing")
    if config.augmentation.quarter_turns and isinstance(spacing, list) and any(side != spacing[0] for side in spacing):
        raise BadConfig(
            f"augmentation.quarter_turns needs voxels that are cubes, and those of {card.name} have "
            f"{' x '.join(map(str, spacing))} mm; set it to false, augmentation.rotation turns any voxels"
        )
    return replace(config, card=card, data=data)


def read_settings(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a YAML file and overrides say, without what they leave to the defaults.

    A file with `base: OTHER.yaml` has the settings of that file beside it, but for those that it has itself.
    """
    values = _with_bases(path, ())
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
        place[last] = _parsed(text, override) if _is_parsed(key.split("."), text) else text
    return values


def _is_parsed(keys: Sequence[str], text: str) -> bool:
    """Whether what is typed for a setting is YAML: not where a text or path is wanted, in which # and numbers stand for
    themselves. Of those, nothing and `null` are YAML where a setting may have no value."""
    kinds: list[Any] = [Config]
    for key in keys:
        hints = [get_type_hints(kind).get(key) for kind in kinds if is_dataclass(kind)]
        kinds = [kind for hint in hints for kind in (get_args(hint) if isinstance(hint, UnionType) else [hint])]
    if not {str, Path} & set(kinds):
        return True
    return type(None) in kinds and text.strip() in ("", "~", "null")


def _with_bases(path: Path, above: Sequence[Path]) -> dict[str, Any]:
    """The settings of a file whose settings those files build upon."""
    place = path.resolve()
    if place in above:
        raise BadConfig(f"{path} is a base of itself")
    values = read_yaml(path)
    if base := values.pop("base", None):
        values = _changed(_with_bases(path.parent / str(base), (*above, place)), values)
    return values


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with some of them changed."""
    changed = {**values, **changes}
    for key in set(values) & set(changes):
        if isinstance(values[key], dict) and isinstance(changes[key], dict):
            changed[key] = _changed(values[key], changes[key])
    return changed


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a file of YAML."""
    try:
        values = _parsed(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise BadConfig(f"{path} has no settings of the form `key: value`")
    return values


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as everywhere else, and no key stands twice beside itself."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if doubles := sorted({key for key in keys if keys.count(key) > 1}):
            problem = f"{', '.join(doubles)} is there more than once; keep one"
            raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _parsed(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise BadConfig(f"{where} is no YAML: {' '.join(str(error).split())}") from error


def typed(kind: type[T], values: Any) -> T:
    """Nested dictionaries, as YAML gives them, as a dataclass."""
    made: T = _dataclass(kind, values, "")
    return made


def labelling(values: Mapping[str, Any]) -> CaseData:
    """What the values in label files mean, how voxels are shown and which shares are held out, of a bundle's record of
    its training data."""
    known = ["classes", "background", "absent_is_unlabelled", "native_voxels"]
    if "folder" in values:  # for phantoms it is a number of them
        known += ["validation", "test"]
    return typed(CaseData, {key: values[key] for key in known if key in values})


def _value(kind: Any, value: Any, where: str) -> Any:
    """A value of YAML as the type that a field is declared with."""
    if get_origin(kind) is Annotated:
        kind, must = get_args(kind)
        value = _value(kind, value, where)
        if not must.holds(value):
            shown = list(value) if isinstance(value, tuple) else value
            raise BadConfig(f"{where} is {shown!r}, and must be {must.be}")
        return value
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
    return _plain(get_origin(kind) or kind, value, where)


def _plain(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (str, Path) and not isinstance(value, kind):
        raise BadConfig(f"{where} is {value!r}, and must be a text; put it in quotation marks")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadConfig(f"{where} is {value!r}, and must be of type {kind.__name__}")
    return value


def _one_of(kinds: Sequence[Any], value: Any, where: str) -> Any:
    """Of several dataclasses the first that has all the keys and lacks none, or nothing."""
    if value is None and type(None) in kinds:
        return None
    kinds = [kind for kind in kinds if kind is not type(None)]
    for kind in kinds[:-1]:
        if (
            is_dataclass(kind)
            and isinstance(value, dict)
            and _needed(kind) <= set(value) <= {f.name for f in fields(kind)}
        ):
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


def _needed(kind: Any) -> set[str]:
    return {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}


def _dataclass(kind: Any, values: Any, where: str) -> Any:
    """Make a dataclass of nested dictionaries, refusing keys it does not have."""
    if not isinstance(values, dict):
        raise BadConfig(f"{where} is {values!r}, and must have settings of its own")
    inner = f"{where}." if where else ""
    if unknown := sorted(set(values) - {f.name for f in fields(kind)}):
        raise BadConfig(f"unknown setting(s) {', '.join(inner + key for key in unknown)}")
    if missing := sorted(_needed(kind) - set(values)):
        raise BadConfig(f"missing setting(s) {', '.join(inner + key for key in missing)}")
    hints = get_type_hints(kind, include_extras=True)
    typed_values = {key: _value(hints[key], value, inner + key) for key, value in values.items()}
    try:
        return kind(**typed_values)
    except ValueError as error:
        raise BadConfig(f"{where}: {error}") from error
