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
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ScaleEquivSegLib.cli.console import say
from ScaleEquivSegLib.errors import SegmentationError, UnavailableDevice
from ScaleEquivSegLib.progress import Remaining

from .config import ComputeConfig
from .progress import left

PATIENCE = timedelta(minutes=30)
"""How long processes wait for each other in training: all do alike much, and one that has failed never comes."""


def trainer_on(compute: ComputeConfig, patience: timedelta = PATIENCE, **how: Any) -> L.Trainer:
    """A trainer; which of the processes this is, it knows already."""
    _check_there(compute)
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


class StepsTold(L.Callback):
    """After every epoch, which ends with a checkpoint, a line for a log; a terminal has Lightning's bar."""

    def __init__(self) -> None:
        self._remaining = Remaining()

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """From here on steps have a pace."""
        self._remaining.update("training", trainer.global_step / trainer.max_steps)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Which step, the loss of the last one, and how long the rest will take."""
        step, steps = trainer.global_step, trainer.max_steps
        seconds = self._remaining.update("training", step / steps)
        if trainer.is_global_zero and not sys.stdout.isatty():
            say(f"step {step} of {steps}: loss {trainer.callback_metrics['train_loss']:.4f}{left(seconds)}")


class Stopped(SegmentationError):
    """A run that a signal has ended."""

    def __init__(self, by: signal.Signals, step: int) -> None:
        super().__init__(f"stopped by {by.name} at step {step}; the same command goes on from the last checkpoint.")
        self.exit_code = 128 + by


@contextmanager
def stops_told(trainer: L.Trainer) -> Iterator[None]:
    """A signal that ends the run in here becomes an error with the step; Lightning itself exits without a word."""
    try:
        yield
    except SIGTERMException as error:
        raise Stopped(signal.SIGTERM, trainer.global_step) from error
    except (KeyboardInterrupt, SystemExit) as error:
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise Stopped(signal.SIGINT, trainer.global_step) from error


@contextmanager
def ending_together(trainer: L.Trainer) -> Iterator[None]:
    """If this process stops for an error, those that it started do not wait for it."""
    try:
        yield
    except BaseException:
        if trainer.strategy.launcher:
            trainer.strategy.launcher.kill(signal.SIGTERM)
        raise


def _check_there(compute: ComputeConfig) -> None:
    """Refuse devices that this machine does not have."""
    is_there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not is_there.get(compute.accelerator, True):
        raise UnavailableDevice(
            f"compute.accelerator is {compute.accelerator}, and PyTorch finds none on this machine; set it to auto or "
            "cpu, or install the PyTorch that has it."
        )
    gpus = torch.cuda.device_count() if compute.accelerator in ("auto", "cuda") else 0
    if gpus and compute.devices > gpus:
        raise UnavailableDevice(
            f"compute.devices is {compute.devices}, and this machine has {gpus} GPUs; set it lower."
        )


def _are_several(compute: ComputeConfig) -> bool:
    gpus = torch.cuda.device_count() if compute.accelerator in ("auto", "cuda") else 0
    return compute.nodes > 1 or (compute.devices or gpus) > 1
