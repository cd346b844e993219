"""One training run from a configuration to a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from ScaleEquivSegLib.errors import SegmentationError
from ScaleEquivSegLib.folder_lock import alone_in
from ScaleEquivSegLib.networks import build_network
from ScaleEquivSegLib.networks.unet import restate_statistics

from .augmentation import Augmenter
from .config import ComputeConfig, Config
from .data import Samples, examples, training_loader, validation_loader
from .export import export_bundle, network_arguments, read_card_text
from .preparation import Example, Task
from .processes import ending_together, trainer_on
from .run_folder import (
    LAST,
    TwoCheckpoints,
    claim,
    newest_checkpoint,
    recorded_command,
    recorded_config,
)
from .task import SegmentationTask, random_seed

STATISTICS_BATCHES = 30


def fit(config: Config, command: str, run_folder: Path, bundle_folder: Path) -> dict[str, float]:
    """Train, restate the normalisation's statistics, validate once and export; returns the validation metrics.

    A run interrupted and started again with the same folder goes on from its last checkpoint, and ends as if it had
    never been interrupted.
    """
    trainer = _trainer(config, run_folder)
    with _claimed(trainer, run_folder, config, command), ending_together(trainer):
        run = _Run.of(config)
        training = training_loader(run.samples, config, trainer.global_rank, trainer.world_size)
        begun = newest_checkpoint(run_folder)
        if begun and trainer.is_global_zero:
            print(f"going on from {begun}")
        trainer.fit(run.module, training, run.validation(trainer), ckpt_path=begun)
        return _export(run, run_folder, bundle_folder)


def export_run(run_folder: Path, bundle_folder: Path) -> dict[str, float]:
    """What `fit` does at its end, for the last checkpoint of a run, finished or not, on one device."""
    config = recorded_config(run_folder)
    return _export(_Run.of(replace(config, compute=ComputeConfig(devices=1))), run_folder, bundle_folder)


@dataclass(frozen=True, eq=False)
class _Run:
    """What a configuration amounts to in memory."""

    config: Config
    task: Task
    module: SegmentationTask
    samples: Samples
    held_out: list[Example]

    @staticmethod
    def of(config: Config) -> _Run:
        L.seed_everything(config.fit.seed, verbose=False)
        card = read_card_text(config.card)
        task = Task.from_card(card)
        network = build_network(config.network.name, network_arguments(config, card))
        training, held_out = examples(config, task)
        samples = Samples(training, Augmenter(task, config.fit.crop, config.augmentation), config.fit.seed)
        return _Run(config, task, SegmentationTask(network, config.fit), samples, held_out)

    def validation(self, trainer: L.Trainer) -> torch.utils.data.DataLoader:
        return validation_loader(self.held_out, len(self.task.labels) + 1, trainer.global_rank, trainer.world_size)


def _trainer(config: Config, folder: Path) -> L.Trainer:
    return trainer_on(
        config.compute,
        max_steps=config.fit.steps,
        default_root_dir=folder,
        callbacks=[
            ModelCheckpoint(
                folder, Path(LAST).stem, save_top_k=1, enable_version_counter=False, save_on_train_epoch_end=True
            ),
            LearningRateMonitor("step"),
        ],
        plugins=[TwoCheckpoints()],
        logger=[CSVLogger(folder, name="csv"), TensorBoardLogger(folder, name="tensorboard")],
        gradient_clip_val=config.fit.gradient_clip,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=max(1, config.fit.validate_every // config.fit.checkpoint_every),
        log_every_n_steps=10,
    )


@contextmanager
def _claimed(trainer: L.Trainer, folder: Path, config: Config, command: str) -> Iterator[None]:
    """The folder for this run alone, which the first process sees to for all."""
    if not trainer.is_global_zero:
        yield
        return
    with alone_in(folder):
        claim(folder, config, command)
        yield


def _export(run: _Run, run_folder: Path, bundle_folder: Path) -> dict[str, float]:
    """Make a bundle of the last checkpoint, measured once and with the precision that it will be used with."""
    checkpoint = newest_checkpoint(run_folder)
    if not checkpoint:
        raise SegmentationError(f"{run_folder} has no checkpoint yet; wait until the run has written one.")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    run.module.load_state_dict(state["state_dict"])
    trainer = trainer_on(replace(run.config.compute, precision="32-true"), logger=False, enable_checkpointing=False)
    _restate(run, trainer.strategy.root_device)
    (measured,) = trainer.validate(run.module, run.validation(trainer), verbose=False)
    names = [label.name for label in run.task.labels]
    metrics = {"dice": round(measured["val_dice"], 4)}
    metrics |= {f"dice.{name}": round(measured[f"val_dice_{k}"], 4) for k, name in enumerate(names, start=1)}
    if trainer.is_global_zero:
        command = recorded_command(run_folder)
        if state["global_step"] < run.config.fit.steps:
            command += f"  # exported after step {state['global_step']}"
        export_bundle(run.module.network, run.config, command, metrics, bundle_folder)
    return metrics


def _restate(run: _Run, device: torch.device) -> None:
    """Take the statistics of the normalisation anew, on samples that were not trained on, alike in every process."""
    fit = run.config.fit
    torch.manual_seed(random_seed(fit.seed, 4))
    first = fit.steps * fit.batch
    numbers = range(first, first + STATISTICS_BATCHES * fit.batch)
    drawn = [run.samples[number]["image"] for number in numbers]
    batches = [torch.stack(drawn[i : i + fit.batch]).to(device) for i in range(0, len(drawn), fit.batch)]
    restate_statistics(run.module.network.to(device), batches)
