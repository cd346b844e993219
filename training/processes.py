"""A Lightning trainer on the devices and in the processes that are asked for."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy

from .config import ComputeConfig

PATIENCE = timedelta(minutes=30)
"""How long processes wait for each other in training: all do alike much, and one that has failed never comes."""


def trainer_on(compute: ComputeConfig, patience: timedelta = PATIENCE, **how: Any) -> L.Trainer:
    """A trainer; which of the processes this is, it knows already."""
    return L.Trainer(
        accelerator=compute.accelerator,
        devices=compute.devices or "auto",
        num_nodes=compute.nodes,
        precision=compute.precision,
        strategy=DDPStrategy(timeout=patience) if _are_several(compute) else "auto",
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stdout.isatty(),
        **how,
    )


@contextmanager
def ending_together(trainer: L.Trainer) -> Iterator[None]:
    """If this process stops for an error, those that it started do not wait for it."""
    try:
        yield
    except BaseException:
        if trainer.strategy.launcher:
            trainer.strategy.launcher.kill(signal.SIGTERM)
        raise


def _are_several(compute: ComputeConfig) -> bool:
    gpus = torch.cuda.device_count() if compute.accelerator in ("auto", "cuda") else 0
    return compute.nodes > 1 or (compute.devices or gpus) > 1
