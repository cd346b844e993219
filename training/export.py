"""From a trained network to a bundle: the weights, and a card that says where they come from."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from ScaleEquivSegLib.bundles import CARD, WEIGHTS, check_card, kind_of, read_bundle
from ScaleEquivSegLib.card import SCHEMA, SEAL, check_form, seal_of
from ScaleEquivSegLib.errors import BadBundle
from ScaleEquivSegLib.networks.unet import parameter_count
from ScaleEquivSegLib.whole_files import in_one_piece, write_text

from .config import BadConfig, CaseData, Config, PhantomData, read_settings
from .records import session

UNMEASURED = "none yet: no case was held out to validate on; `python -m training evaluate --note` measures others"

WEIGHTS_SHOWN = 3


def _described(data: PhantomData | CaseData) -> dict[str, Any]:
    """The settings of the data, with the folder's name alone: where it lies on a machine is nobody else's business."""
    return {key: name_of(value) if isinstance(value, Path) else value for key, value in asdict(data).items()}


def name_of(folder: Path) -> str:
    """The name of a file or folder, however its place is written: `.` has one, too."""
    return Path(os.path.abspath(folder)).name


def read_card_text(path: Path) -> dict[str, Any]:
    """The part of a card that people write: names, inputs, labels, uses and limits."""
    return read_settings(path)


def network_arguments(config: Config, card: Mapping[str, Any]) -> dict[str, Any]:
    """The network's arguments with the channels and classes that follow from the card."""
    return {
        **config.network.arguments,
        "in_channels": len(card["inputs"]),
        "classes": len(card["classes"]) if kind_of(card) == "classification" else len(card["labels"]) + 1,
    }


def weights_of(network: nn.Module) -> bytes:
    """The weights as a bundle's file has them."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()})


def export_bundle(
    network: nn.Module,
    config: Config,
    command: str,
    metrics: Mapping[str, float],
    folder: Path,
    held_out: Sequence[str] = (),
    start: Mapping[str, str] | None = None,
    trained_on: Collection[str] = (),
    sessions: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write weights and sealed card; the card comes last, so that an unfinished bundle is not taken for one.

    It names the cases that were trained on, also before, and those that were held out, so that whoever measures can
    tell them apart, the bundle that the training started from, and the sources and the precision of each session.
    """
    if broken := [name for name, values in network.state_dict().items() if not values.isfinite().all()]:
        raise BadBundle(
            f"{', '.join(broken[:WEIGHTS_SHOWN])} of the network have values that are NaN or infinite, and {folder} is "
            "not written; train again with a lower fit.learning_rate."
        )
    weights = weights_of(network)
    text = read_card_text(config.card)
    card: dict[str, Any] = {
        **_beginning(config, text, network_arguments(config, text)),
        "parameters": parameter_count(network),
        "training": {
            "command": command,
            **({"start": dict(start)} if start else {}),
            **({"sessions": [*map(dict, sessions)]} if sessions else {}),
            "data": {
                **_described(config.data),
                **({"trained_on": sorted(trained_on)} if trained_on else {}),
                **({"held_out": sorted(held_out)} if held_out else {}),
            },
            "augmentation": asdict(config.augmentation),
            "fit": asdict(config.fit),
            "torch": torch.__version__,
        },
        "metrics": _finite(metrics),
        **({} if metrics else {"metrics_command": UNMEASURED}),
        "weights": {"sha256": hashlib.sha256(weights).hexdigest()},
    }
    try:
        check_card(card)
    except (TypeError, ValueError) as error:
        raise BadBundle(
            f"{config.card} makes no card that can be used, and {folder} is not written: {error}."
        ) from error
    with in_one_piece(folder / WEIGHTS) as unfinished:
        unfinished.write_bytes(weights)
    _write_sealed(card, folder)


def check_card_text(config: Config, command: str) -> None:
    """Refuse, before anything is trained, what would make no card in the end: a text in which something is missing or
    wrong, a name or arguments of the network that no bundle may have."""
    try:
        text = read_card_text(config.card)
        rest = {
            "training": {"command": command},
            "metrics": {},
            "weights": {"sha256": hashlib.sha256(b"").hexdigest()},
        }
        # First its form alone, for the arguments follow from the inputs and labels.
        form = {**config.network.arguments, "in_channels": 1, "classes": 2}
        check_form({**_beginning(config, text, form), **rest})
        check_card({**_beginning(config, text, network_arguments(config, text)), **rest})
    except (TypeError, ValueError) as error:  # JSON has no dates, which YAML has
        raise BadConfig(f"{config.card} and the settings make no card that can be used: {error}") from error


def _beginning(config: Config, text: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says of the bundle before it is trained."""
    return {
        "schema": SCHEMA,
        "name": config.name or f"{text.get('task')}-{config.network.name}",
        **text,
        "network": {"name": config.network.name, "arguments": arguments},
    }


def note_measurements(folder: Path, metrics: Mapping[str, float], command: str) -> None:
    """Put figures into a bundle's card, the command that printed them and its sources; of a segmentation also what a
    volume costs on this machine, where that can be measured."""
    card = dict(read_bundle(folder).card)
    # The benchmarks take seconds to import, and whoever trains needs none.
    from .benchmarks.memory import can_measure_peak

    here = session()
    measured = {
        "metrics": _finite(metrics),
        "metrics_command": command,
        "metrics_sources": {"revision": here.revision, "changed": here.changed},
    }
    measurable = kind_of(card) == "segmentation" and can_measure_peak(torch.device("cpu"))
    expected = {"expected": _expected(folder)} if measurable else {}
    _write_sealed({**card, **measured, **expected}, folder)


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    """JSON has no NaN; a figure that no case had is left out."""
    return {name: round(figure, 4) for name, figure in figures.items() if math.isfinite(figure)}


def _expected(folder: Path) -> dict[str, Any]:
    """Time and memory of a volume, in a process of its own."""
    from .benchmarks.memory import in_own_process
    from .benchmarks.volumes import SMALL, measure

    run = in_own_process(measure, read_bundle(folder), SMALL)
    return {
        "size": list(SMALL),
        "seconds": round(run["seconds_per_voxel"] * math.prod(SMALL), 1),
        "gib": round(run["peak_gib"], 2),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }


def _write_sealed(card: Mapping[str, Any], folder: Path) -> None:
    unsealed = {key: value for key, value in card.items() if key != SEAL}
    write_text(json.dumps({**unsealed, SEAL: seal_of(unsealed)}, indent=2) + "\n", folder / CARD)
    read_bundle(folder)
