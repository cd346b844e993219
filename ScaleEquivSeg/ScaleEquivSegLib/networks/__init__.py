"""Networks built from the layers, by name: what a bundle's card refers to."""

from __future__ import annotations

from .classifier import Classifier, build_classifier
from .unet import UNet, build_network

__all__ = ["Classifier", "UNet", "build_classifier", "build_network"]
