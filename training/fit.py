"""One training run from a configuration to a bundle."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from monai.utils import set_determinism

from ScaleEquivSegLib.bundles import Channel
from ScaleEquivSegLib.networks import SegmentationNetwork, build_network
from ScaleEquivSegLib.networks.unet import restate_statistics

from .config import Config
from .data import phantom_cases, training_loader, validation_loader
from .export import export_bundle, network_arguments, read_card_text
from .task import SegmentationTask

STATISTICS_BATCHES = 30


def fit(config: Config, command: str, run_folder: Path, bundle_folder: Path) -> dict[str, float]:
    """Train, restate the normalisation's statistics, validate once and export; returns the validation metrics.

    A run interrupted and started again with the same folder goes on from its last checkpoint.
    """
    L.seed_everything(config.fit.seed)
    set_determinism(config.fit.seed)
    card = read_card_text(config.card)
    inputs = tuple(Channel.from_card(entry) for entry in card["inputs"])
    network = build_network(config.network.name, network_arguments(config, card))
    data = config.data
    training = phantom_cases(data.train, data.first_train_seed, data, inputs)
    validation = phantom_cases(data.validation, data.first_validation_seed, data, inputs)

    task = SegmentationTask(network, config.fit)
    checkpoints = ModelCheckpoint(
        run_folder, save_last=True, every_n_train_steps=config.fit.checkpoint_every, save_top_k=0
    )
    trainer = L.Trainer(
        max_steps=config.fit.steps,
        default_root_dir=run_folder,
        callbacks=[checkpoints],
        logger=[CSVLogger(run_folder, name="csv"), TensorBoardLogger(run_folder, name="tensorboard")],
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )
    last = run_folder / "last.ckpt"
    trainer.fit(task, training_loader(training, config.fit), ckpt_path=last if last.exists() else None)
    _restate(network, training_loader(training, config.fit))
    (measured,) = trainer.validate(task, validation_loader(validation), verbose=False)
    names = [label["name"] for label in card["labels"]]
    metrics = {"dice": round(measured["val_dice"], 4)}
    metrics |= {f"dice.{name}": round(measured[f"val_dice_{k}"], 4) for k, name in enumerate(names, start=1)}
    export_bundle(network, config, command, metrics, bundle_folder)
    return metrics


def _restate(network: SegmentationNetwork, loader: torch.utils.data.DataLoader) -> None:
    batches = [
        batch["image"].as_subclass(torch.Tensor) for batch, _ in zip(loader, range(STATISTICS_BATCHES), strict=False)
    ]
    restate_statistics(network, batches)
