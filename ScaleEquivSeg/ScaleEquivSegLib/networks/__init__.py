"""Networks built from the layers, by name: what a bundle's card refers to."""

from __future__ import annotations

from .unet import UNet, build_network

__all__ = ["UNet", "build_network"]
