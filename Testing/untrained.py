"""Small U-Nets with random weights, as they are at inference, and all scores of one at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ScaleEquivSegLib.inference import WorkingImage, score_planes
from ScaleEquivSegLib.layers.dynamic import DynamicScaleConv
from ScaleEquivSegLib.layers.mixture import dynamic_layers
from ScaleEquivSegLib.networks import SegmentationNetwork, UNet, build_network
from training.fields import field
from training.statistics import restate_statistics

UNETS = ["unet", "se_unet", "dynamic_se_unet", "pyramid_unet"]


def untrained(name: str, scales: int = 2, **arguments: Any) -> UNet:
    """A network whose statistics fit natural images and whose attention, if any, tells kernels apart."""
    torch.manual_seed(0)
    axis = {} if name == "unet" else {"scale_axis": {"first": 1.0, "ratio": 2**0.5, "count": scales}}
    network = build_network(name, {"in_channels": 1, "classes": 3, "channels": (4, 8), **axis, **arguments})
    assert isinstance(network, UNet)
    for layer in dynamic_layers(network):
        sharpened(layer)
    restate_statistics(network, [field(20, 1.0, "natural", seed) for seed in (1, 2)])
    return network.eval().requires_grad_(False)


def sharpened(layer: nn.Module) -> DynamicScaleConv:
    """A dynamic layer whose attention has an opinion: it starts without one."""
    assert isinstance(layer, DynamicScaleConv)
    for parameter in layer.attention.last.parameters():
        nn.init.normal_(parameter, std=3.0)
    return layer


def class_scores(network: SegmentationNetwork, image: WorkingImage, slab: int | None = None, **settings: Any) -> Tensor:
    """All scores (class, x, y, z) that the engine reads plane by plane."""
    with torch.inference_mode():
        planes = score_planes(network, image, torch.device("cpu"), slab=slab, **settings)
        return planes.reader()(0, planes.count)
