"""Networks built from the layers, by name: what a bundle's card refers to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .classifier import FAMILIES, Classifier, build_classifier
from .network import SegmentationNetwork
from .published import PublishedUNet, published_se_unet
from .unet import UNet, dynamic_scale_equivariant_unet, plain_unet, pyramid_unet, scale_equivariant_unet

__all__ = [
    "BUILDERS",
    "CLASSIFIERS",
    "Classifier",
    "PublishedUNet",
    "SegmentationNetwork",
    "UNet",
    "build_classifier",
    "build_network",
]

BUILDERS: Mapping[str, Callable[..., SegmentationNetwork]] = {
    "unet": plain_unet,
    "se_unet": scale_equivariant_unet,
    "dynamic_se_unet": dynamic_scale_equivariant_unet,
    "pyramid_unet": pyramid_unet,
    "published_se_unet": published_se_unet,
}


CLASSIFIERS: Mapping[str, Callable[[Mapping[str, Any]], Classifier]] = {
    f"{family}_classifier": partial(build_classifier, family) for family in FAMILIES
}


def build_network(name: str, arguments: Mapping[str, Any]) -> SegmentationNetwork:
    """Build a network by the name and arguments a bundle's card gives."""
    if name not in BUILDERS:
        raise ValueError(f"unknown network {name!r}; known: {', '.join(sorted(BUILDERS))}")
    return BUILDERS[name](**arguments)
