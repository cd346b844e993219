"""A benchmark's case: two ways to do one thing, run in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

CPU = torch.device("cpu")

Figures = dict[str, float]
Shape = tuple[int, int, int]
"""(k, j, i) as arrays are stored."""
Work = Callable[[], object]
Side = Callable[[], float]
"""Does one side's work once and says what it took, in seconds or seconds per voxel."""


@dataclass(frozen=True)
class Conditions:
    """How often each side runs, where, and how large its input is, in voxels per axis or as a shape."""

    repeats: int = 5
    device: torch.device = CPU
    layers: int = 61
    networks: int = 64
    thin: Shape = (16, 512, 512)
    cube: Shape = (64, 64, 64)
    small: Shape = (32, 32, 32)


@dataclass(frozen=True)
class Case:
    """Two ways to do one thing."""

    name: str
    ours: Side
    other: Side

    def pairs(self, repeats: int) -> list[tuple[float, float]]:
        """What both took: after a warm-up, in turns, so that whatever else the machine does meets them alike."""
        self.ours()
        self.other()
        return [(self.ours(), self.other()) for _ in range(repeats)]

    def ratios(self, pairs: Sequence[tuple[float, float]]) -> Figures:
        """Ours over the other."""
        return spread(f"{self.name}.ratio", [ours / other for ours, other in pairs])


def spread(key: str, values: Sequence[float]) -> Figures:
    """The median, and how far single values lie from it."""
    return {key: statistics.median(values), f"{key}.min": min(values), f"{key}.max": max(values)}


def timed(work: Work, device: torch.device = CPU, voxels: int = 1) -> Side:
    """The side that does this work; its seconds, or its seconds per voxel."""

    def side() -> float:
        started = time.perf_counter()
        work()
        getattr(torch, device.type).synchronize()
        return (time.perf_counter() - started) / voxels

    return side
