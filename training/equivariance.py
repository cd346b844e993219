"""How far a layer, a network or a bundle follows its input through a change of scale: the report and its picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ScaleEquivSegLib.bundles import read_bundle
from ScaleEquivSegLib.comparison import dice_per_label
from ScaleEquivSegLib.layers.resample import ScaleAxis, apply_along_axes, lift
from ScaleEquivSegLib.layers.scale_conv import PlainConv, ScaleConv
from ScaleEquivSegLib.networks import UNet, build_network
from ScaleEquivSegLib.networks.published import ScaleProjection
from ScaleEquivSegLib.networks.unet import restate_statistics
from ScaleEquivSegLib.segmentation import Model, load_model, segment
from ScaleEquivSegLib.volume import Geometry, Volume, read_volume, resample

from .fields import correlation, field, relative_difference

SCALES = (0.9, 0.8, 0.7, 0.5, 1.4)
ORIGIN = (0, 0, 0)
SINC_LOBES = 8
SIZE = 93  # the published network takes 29, 37, ..., 93, ... voxels without padding
AXIS = {"first": 1.0, "ratio": 2**0.5, "count": 5}
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "se_unet": {"scale_axis": AXIS},
    "dynamic_se_unet": {"scale_axis": AXIS},
    "pyramid_unet": {"scale_axis": AXIS},
    "unet": {},
    "published_se_unet": {},
}

Figures = dict[str, float]


def report_untrained(seed: int = 0) -> Figures:
    """Layers and networks with random weights, on natural and white fields."""
    figures: Figures = {}
    for colour in ("natural", "white"):
        figures |= layer_figures(colour, seed)
    for name, arguments in NETWORKS.items():
        torch.manual_seed(seed)
        network = build_network(name, {"in_channels": 1, "classes": 3, **arguments})
        figures |= {f"{name}.{key}": value for key, value in network_figures(settled(network), seed).items()}
    return figures


def settled(network: nn.Module) -> nn.Module:
    """The network at inference, with statistics taken from natural fields if it keeps any."""
    restate_statistics(network, [field(48, 1.0, "natural", seed) for seed in (101, 102)])
    return network.eval()


@torch.no_grad()
def layer_figures(colour: str, seed: int) -> Figures:
    """Relative squared error at x0.9 of a lifting convolution, of a further one, and of no equivariance at all.

    The worst of three neighbouring pairs of scales, the finest of spacing 1.
    """
    torch.manual_seed(seed)
    first, second = ScaleConv(1, 8), ScaleConv(8, 8)
    image, rescaled = field(SIZE, 1.0, colour, seed), field(SIZE, 0.9, colour, seed)
    lifting, further = [], []
    for step in range(3):
        spacing = 0.9 ** (step - 3)
        a = first(lift(image, ScaleAxis(spacing), ORIGIN, 1)[0])
        b = first(lift(rescaled, ScaleAxis(0.9 * spacing), ORIGIN, 1)[0])
        lifting.append(relative_difference(*_same_index(a[0], b[0])))
        further.append(relative_difference(*_same_index(second(a)[0], second(b)[0])))
    plain = PlainConv(1, 8)
    control = relative_difference(*_aligned(plain([image])[0], plain([rescaled])[0], 0.9))
    return {
        f"lift.{colour}.delta": max(lifting),
        f"scale_conv.{colour}.delta": max(further),
        f"control.{colour}.delta": control,
    }


@torch.no_grad()
def network_figures(network: nn.Module, seed: int) -> Figures:
    """Per scale the correlation of scores(rescaled image) with rescaled scores(image); the error at the group level."""
    image = field(SIZE, 1.0, "natural", seed)
    scores = network(image)
    figures = {}
    if _has_scale_axis(network):
        figures["group.delta@0.9"] = _group_difference(network, image, field(SIZE, 0.9, "natural", seed))
    for scale in SCALES:
        found, wanted = _aligned(scores, network(field(SIZE, scale, "natural", seed)), scale)
        figures[f"correlation@{scale:g}"] = correlation(found, wanted)
    return figures


def _has_scale_axis(network: nn.Module) -> bool:
    return not (isinstance(network, UNet) and network.axis.count == 1)


def _group_difference(network: nn.Module, image: Tensor, rescaled: Tensor) -> float:
    """Relative squared error, over all scales together, of the features before the projection, at x0.9.

    An axis that may be changed is moved along with the input; a fixed one, whose ratio is 0.9, is shifted by one.
    """
    features = _features_before_projection(network, image)
    if isinstance(network, UNet):
        axis, network.axis = network.axis, ScaleAxis(0.9 * network.axis.first, network.axis.ratio, network.axis.count)
        moved = _features_before_projection(network, rescaled)
        network.axis = axis
        pairs = [_same_index(a, b) for a, b in zip(features, moved, strict=True)]
    else:
        moved = _features_before_projection(network, rescaled)
        pairs = [_aligned(a, b, 0.9) for a, b in zip(features[:-1], moved[1:], strict=True)]
    found, wanted = (torch.cat([pair[side].flatten() for pair in pairs]) for side in (0, 1))
    return relative_difference(found, wanted)


def _features_before_projection(network: nn.Module, image: Tensor) -> list[Tensor]:
    """Per scale the map that the projection takes."""
    kept: list[Any] = []
    projection = next(m for n, m in network.named_modules() if n == "projection" or isinstance(m, ScaleProjection))
    hook = projection.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    network(image)
    hook.remove()
    return list(kept[0]) if isinstance(kept[0], list) else list(kept[0].unbind(2))


def _same_index(of_image: Tensor, of_rescaled: Tensor) -> tuple[Tensor, Tensor]:
    """The middle of maps on grids that moved along with the input: the same index is the same place."""
    inner = _middle(min(of_image.shape[-1], of_rescaled.shape[-1]))
    return of_rescaled[..., inner, inner, inner], of_image[..., inner, inner, inner]


def _aligned(of_image: Tensor, of_rescaled: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The middle of a map of the rescaled image, and there the rescaled map of the image."""
    size = of_image.shape[-1]
    reach = min(size, int((size - 1) * scale) + 1)
    weights = _ideal_weights(torch.arange(reach, dtype=torch.float64) / scale, size, min(1.0, scale))
    wanted = apply_along_axes(of_image, [weights] * 3)
    inner = _middle(reach)
    return of_rescaled[..., inner, inner, inner], wanted[..., inner, inner, inner]


def _ideal_weights(positions: Tensor, size: int, cutoff: float) -> Tensor:
    """Rows that interpolate and keep only frequencies below a share of the highest: a sinc in a wide Hann window."""
    offsets = positions[:, None] - torch.arange(size, dtype=torch.float64)
    window = torch.cos(0.5 * torch.pi * (offsets * cutoff / SINC_LOBES).clamp(-1, 1)).square()
    weights = torch.sinc(cutoff * offsets) * window
    return weights / weights.sum(1, keepdim=True)


def _middle(size: int) -> slice:
    return slice(size // 4, size - size // 4)


def report_bundle(bundle: Path, image: Path) -> Figures:
    """Mean Dice over the classes of segment(rescaled image) with rescaled segment(image)."""
    model, volume = load_model(read_bundle(bundle)), read_volume(image)
    return dice_with_itself(model, volume, SCALES)


def dice_with_itself(model: Model, volume: Volume, scales: Sequence[float]) -> Figures:
    """The same for a loaded model and any scales."""
    labels = segment([volume], model).labels
    figures = {}
    for scale in scales:
        found = segment([magnified(volume, scale)], model).labels
        wanted = magnified_labels(labels, scale, len(model.bundle.labels))
        figures[f"dice_with_itself@{scale:g}"] = float(
            np.mean(list(dice_per_label(found, wanted, model.bundle.labels).values()))
        )
    return figures


def magnified(volume: Volume, scale: float) -> Volume:
    """The volume with its contents larger by a factor, in voxels of the same size."""
    source = volume.geometry
    shape = tuple(max(1, round(n * scale)) for n in source.shape)
    centre = source.to_ras((source.size - 1) / 2)

    def grid(spacing: float) -> Geometry:
        matrix = np.eye(4)
        matrix[:3, :3] = source.ijk_to_ras[:3, :3] * spacing
        matrix[:3, 3] = centre - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
        return Geometry((shape[0], shape[1], shape[2]), matrix)

    return Volume(resample(volume, grid(1 / scale)).array, grid(1.0))


def magnified_labels(labels: Volume, scale: float, classes: int) -> Volume:
    """Labels magnified like `magnified`: each class as a mask, then the largest."""
    one_hot = [
        magnified(Volume((labels.array == value).astype(np.float32), labels.geometry), scale)
        for value in range(classes + 1)
    ]
    return Volume(np.stack([mask.array for mask in one_hot]).argmax(0).astype(np.uint8), one_hot[0].geometry)


def draw(path: Path, scale: float = 0.7, seed: int = 0) -> None:
    """A row per network: scores of the rescaled image, the rescaled scores, and their difference, in one slice."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(NETWORKS), 3, figsize=(7.5, 2.6 * len(NETWORKS)), squeeze=False)
    for row, (name, arguments) in zip(axes, NETWORKS.items(), strict=True):
        torch.manual_seed(seed)
        network = settled(build_network(name, {"in_channels": 1, "classes": 3, **arguments}))
        found, wanted = _scores_of_both(network, scale, seed)
        limit = float(wanted.abs().max())
        middle = wanted.shape[-1] // 2
        titles = [f"{name}\nscores of the image × {scale:g}", f"scores of the image, × {scale:g}", "difference"]
        for axis, title, values in zip(row, titles, (found, wanted, found - wanted), strict=True):
            axis.imshow(values[0, 0, :, :, middle], cmap="RdBu", vmin=-limit, vmax=limit)
            axis.set_title(title, fontsize=9)
            axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


@torch.no_grad()
def _scores_of_both(network: Callable[[Tensor], Tensor], scale: float, seed: int) -> tuple[Tensor, Tensor]:
    """Both sides of the comparison, each class centred: a constant is no error anybody sees."""
    scores, rescaled = (network(field(SIZE, s, "natural", seed)) for s in (1.0, scale))
    found, wanted = _aligned(scores, rescaled, scale)
    return found - found.mean((2, 3, 4), keepdim=True), wanted - wanted.mean((2, 3, 4), keepdim=True)
