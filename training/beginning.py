"""What a training begins with, where that is not chance: the weights of a bundle."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from safetensors.torch import load
from torch import nn

from ScaleEquivSegLib.bundles import read_bundle, read_weights

from .config import BadConfig
from .evaluate import trained_names


def check_unseen(folder: Path, held_out: Iterable[str]) -> None:
    """Refuse to hold out cases that the bundle to begin with was trained on: their figures would be too good."""
    if seen := sorted(set(held_out).intersection(trained_names(read_bundle(folder)))):
        raise BadConfig(
            f"{folder} was trained on cases that are to validate: {', '.join(seen)}. Hold out what it held out, or "
            "begin with another bundle."
        )


def begin_with(network: nn.Module, folder: Path) -> list[str]:
    """Give a network those weights of a bundle that have the same name and shape; returns the names of all others.

    Another number of channels or of labels changes the first or the last layer alone, which then begin by chance.
    """
    given, own = load(read_weights(read_bundle(folder))), network.state_dict()
    fitting = {name: weight for name, weight in given.items() if name in own and own[name].shape == weight.shape}
    if 2 * len(fitting) < len(own):
        raise BadConfig(
            f"{folder} has another network than the one to train: of {len(own)} weights only {len(fitting)} fit; "
            "give the network of its card."
        )
    network.load_state_dict({**own, **fitting})
    return [name for name in own if name not in fitting]
