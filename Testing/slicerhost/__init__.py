"""A stand-in for 3D Slicer's Qt side: runs an unmodified scripted module on slicer-core and PySide6.
The scene, logics and views are Slicer's own; widgets, base classes and parameter nodes are imitations."""

from __future__ import annotations

from .host import Host, start

__all__ = ["Host", "start"]
