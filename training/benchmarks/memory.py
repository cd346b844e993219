"""How much memory something takes at its peak: measured in a process of its own, from where it stood before."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

FORGET_PEAK = Path("/proc/self/clear_refs")

P = ParamSpec("P")
T = TypeVar("T")


def in_own_process(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call a module's function in a fresh Python, whose memory nothing else has touched."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def can_measure_peak(device: torch.device) -> bool:
    """Whether `peak_gib` knows a way: torch counts on CUDA, Linux counts for the CPU."""
    return device.type == "cuda" or (device.type == "cpu" and FORGET_PEAK.exists())


def peak_gib(action: Callable[[], object], device: torch.device) -> float:
    """How far memory grows while something runs that has been warmed up before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**30
    FORGET_PEAK.write_text("5", encoding="ascii")  # that of starting up
    at_start = _status_gib("VmRSS")
    action()
    return _status_gib("VmHWM") - at_start


def _status_gib(key: str) -> float:
    """A line of Linux's account of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 2**20
