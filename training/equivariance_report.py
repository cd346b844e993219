"""The equivariance report: figures of untrained networks or of a bundle, and a picture of the error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ScaleEquivSegLib.bundles import read_bundle
from ScaleEquivSegLib.networks import UNet, build_network
from ScaleEquivSegLib.scale_sweep import scale_sweep
from ScaleEquivSegLib.segmentation import Model, load_model, working_image
from ScaleEquivSegLib.volume import Volume, read_volume
from ScaleEquivSegLib.whole_files import in_one_piece

from .equivariance import (
    SCALES,
    Figures,
    Source,
    aligned,
    image_source,
    layer_figures,
    network_figures,
    random_source,
    trace,
)
from .fields import field, relative_difference
from .statistics import restate_statistics

AXIS = {"first": 1.0, "ratio": 2**0.5, "count": 5}
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "se_unet": {"scale_axis": AXIS},
    "dynamic_se_unet": {"scale_axis": AXIS},
    "pyramid_unet": {"scale_axis": AXIS},
    "unet": {},
    "published_se_unet": {},
}
SLICES = 5
"""How many slices of the difference are drawn."""


def untrained(
    name: str,
    seed: int,
    arguments: Mapping[str, Any] | None = None,
    change: Callable[[Any], None] = lambda network: None,
) -> nn.Module:
    """A network with random weights at inference, with statistics taken from natural fields if it keeps any."""
    torch.manual_seed(seed)
    network = build_network(name, {"in_channels": 1, "classes": 3, **(arguments or NETWORKS[name])})
    change(network)
    restate_statistics(network, [field(48, 1.0, "natural", seed) for seed in (101, 102)])
    return network.eval()


def report_untrained(names: Sequence[str], image: Path | None = None, seed: int = 0) -> Figures:
    """Single layers and networks with random weights on natural and white fields, or networks on an image."""
    figures: Figures = {}
    for colour in () if image else ("natural", "white"):
        figures |= layer_figures(colour, seed)
    sources = {"": _natural_or_image(image, seed)}
    if not image:
        sources["white."] = random_source("white", seed)
    for name in names:
        network = untrained(name, seed)
        for prefix, source in sources.items():
            figures |= {f"{name}.{prefix}{key}": value for key, value in figures_of(network, source).items()}
    return figures


def _natural_or_image(image: Path | None, seed: int) -> Source:
    if image is None:
        return random_source("natural", seed)
    array = read_volume(image).array.astype(np.float32).transpose(2, 1, 0)  # the networks count x, y, z
    values = (array - array.mean()) / max(float(array.std()), 1e-6)
    return image_source(torch.from_numpy(values.copy())[None, None])


def figures_of(network: nn.Module, source: Source) -> Figures:
    """The network as a whole and, if its scale axis can be moved, after every step."""
    steps = trace(network, source, 0.9) if isinstance(network, UNet) and network.axis.count > 1 else {}
    return network_figures(network, source) | steps


def report_bundle(bundle: Path, images: Sequence[Path]) -> Figures:
    """A bundle's segmentation of rescaled images with itself, and its network's figures on its channels' images."""
    model, channels = load_model(read_bundle(bundle)), [read_volume(image) for image in images]
    found = dice_with_itself(model, channels, SCALES)  # may move the network to a GPU
    return found | figures_of(model.network.cpu(), bundle_source(model, channels))


def bundle_source(model: Model, channels: Sequence[Volume]) -> Source:
    """A case as a bundle's network sees it."""
    image, _ = working_image(channels, model.bundle)
    return image_source(image.whole()[None])


def dice_with_itself(model: Model, channels: Sequence[Volume], scales: Sequence[float]) -> Figures:
    """Mean Dice over the classes of segment(rescaled image) with rescaled segment(image)."""
    return {
        f"dice_with_itself@{at.scale:g}": float(np.mean(list(at.with_itself.values())))
        for at in scale_sweep(channels, model, scales)
    }


def draw_untrained(path: Path, names: Sequence[str], image: Path | None = None, seed: int = 0) -> None:
    """The picture of untrained networks, a row each."""
    draw(path, {name: untrained(name, seed) for name in names}, _natural_or_image(image, seed))


def draw_bundle(path: Path, bundle: Path, images: Sequence[Path]) -> None:
    """The picture of a bundle's network on its channels' images."""
    model = load_model(read_bundle(bundle))
    source = bundle_source(model, [read_volume(image) for image in images])
    draw(path, {model.bundle.name: model.network}, source)


def draw(path: Path, networks: Mapping[str, nn.Module], source: Source, scale: float = 0.7) -> None:
    """A row per network: both sides of the comparison in one slice, their difference in several, the error in each."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = 3 + SLICES
    figure, axes = plt.subplots(len(networks), columns, figsize=(2.2 * columns, 2.4 * len(networks)), squeeze=False)
    for row, (name, network) in zip(axes, networks.items(), strict=True):
        found, wanted = _scores_of_both(network, source, scale)
        limit = float(wanted.abs().max())
        depth = wanted.shape[-1]
        shown = [round((i + 0.5) * depth / SLICES - 0.5) for i in range(SLICES)]
        pictures = [(f"{name}\nscores of image × {scale:g}", found, depth // 2)]
        pictures += [(f"scores of image, × {scale:g}", wanted, depth // 2)]
        pictures += [(f"difference, slice {z}", found - wanted, z) for z in shown]
        for axis, (title, values, z) in zip(row, pictures, strict=False):
            axis.imshow(values[0, 0, :, :, z].numpy(), cmap="RdBu", vmin=-limit, vmax=limit)
            axis.set_title(title, fontsize=8)
            axis.axis("off")
        errors = [relative_difference(found[..., z], wanted[..., z]) for z in range(depth)]
        row[-1].semilogy(errors, color="black")
        row[-1].set_ylim(1e-5, 1e1)
        row[-1].set_title("relative squared error", fontsize=8)
        row[-1].set_xlabel("slice", fontsize=8)
        row[-1].tick_params(labelsize=7)
        row[-1].grid(alpha=0.3)
    figure.tight_layout()
    with in_one_piece(path) as whole:
        figure.savefig(whole, dpi=100)
    plt.close(figure)


@torch.no_grad()
def _scores_of_both(network: nn.Module, source: Source, scale: float) -> tuple[Tensor, Tensor]:
    """Both sides of the comparison, each class centred: a constant is no error anybody sees."""
    found, wanted = aligned(network(source(1.0)), network(source(scale)), scale)
    return found - found.mean((2, 3, 4), keepdim=True), wanted - wanted.mean((2, 3, 4), keepdim=True)
