"""One training run from a configuration to a bundle."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from ScaleEquivSegLib.networks import SegmentationNetwork, build_network
from ScaleEquivSegLib.networks.unet import restate_statistics

from .augmentation import Augmenter
from .config import Config, FitConfig
from .data import Samples, WholeExamples, examples, training_loader
from .export import export_bundle, network_arguments, read_card_text
from .preparation import Task
from .task import SegmentationTask

STATISTICS_BATCHES = 30


def fit(config: Config, command: str, run_folder: Path, bundle_folder: Path) -> dict[str, float]:
    """Train, restate the normalisation's statistics, validate once and export; returns the validation metrics.

    A run interrupted and started again with the same folder goes on from its last checkpoint.
    """
    L.seed_everything(config.fit.seed)
    card = read_card_text(config.card)
    task = Task.from_card(card)
    network = build_network(config.network.name, network_arguments(config, card))
    training, validation = examples(config, task)
    samples = Samples(training, Augmenter(task, config.fit.crop, config.augmentation), config.fit.seed)

    module = SegmentationTask(network, config.fit)
    trainer = L.Trainer(
        max_steps=config.fit.steps,
        default_root_dir=run_folder,
        callbacks=[ModelCheckpoint(run_folder, save_last=True, save_top_k=0, every_n_epochs=1)],
        logger=[CSVLogger(run_folder, name="csv"), TensorBoardLogger(run_folder, name="tensorboard")],
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=max(1, config.fit.validate_every // config.fit.checkpoint_every),
        log_every_n_steps=10,
        use_distributed_sampler=False,
    )
    last = run_folder / "last.ckpt"
    whole = DataLoader(WholeExamples(validation, len(task.labels) + 1))
    trainer.fit(module, training_loader(samples, config.fit), whole, ckpt_path=last if last.exists() else None)
    _restate(network, samples, config.fit)
    (measured,) = trainer.validate(module, whole, verbose=False)
    names = [label.name for label in task.labels]
    metrics = {"dice": round(measured["val_dice"], 4)}
    metrics |= {f"dice.{name}": round(measured[f"val_dice_{k}"], 4) for k, name in enumerate(names, start=1)}
    export_bundle(network, config, command, metrics, bundle_folder)
    return metrics


def _restate(network: SegmentationNetwork, samples: Samples, fit: FitConfig) -> None:
    """Take the statistics of the normalisation anew, on samples that were not trained on."""
    first = fit.steps * fit.batch
    numbers = range(first, first + STATISTICS_BATCHES * fit.batch)
    drawn = [samples[number]["image"] for number in numbers]
    restate_statistics(network, [torch.stack(drawn[i : i + fit.batch]) for i in range(0, len(drawn), fit.batch)])
