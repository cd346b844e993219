"""One training run from a configuration to a bundle."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from ScaleEquivSegLib.bundles import WEIGHTS, kind_of
from ScaleEquivSegLib.cli.console import check_writable
from ScaleEquivSegLib.errors import SegmentationError
from ScaleEquivSegLib.folder_lock import alone_in
from ScaleEquivSegLib.networks import CLASSIFIERS, build_network

from .augmentation import Augmenter
from .beginning import begin_with, check_unseen
from .config import BadConfig, Config
from .data import Samples, check_shared, examples, training_loader, validation_loader
from .export import check_card_text, export_bundle, network_arguments, read_card_text, weights_of
from .picture_metrics import figure_names
from .picture_samples import PictureAugmenter, PictureTask, picture_examples, picture_loader
from .picture_task import ClassificationTask
from .preparation import Task
from .processes import StepsTold, ending_together, stops_told, trainer_on
from .roster import roster_of
from .run_folder import (
    LAST,
    TwoCheckpoints,
    check_is_own,
    check_roster,
    check_settings,
    claim,
    finished_epochs,
    newest_checkpoint,
    note_as_own,
    note_session,
    recorded_command,
    recorded_config,
    recorded_sessions,
    recorded_start,
    settings_digest,
)
from .shelf import Shelf
from .splits import Chosen
from .statistics import restate_statistics
from .task import NetworkTask, SegmentationTask, random_seed

T = TypeVar("T")

STATISTICS_BATCHES = 30
EXAMPLES = "examples"
"""The folder of what a run trains on, in its own; gone when the run is done."""


def fit(
    config: Config, command: str, run_folder: Path, bundle_folder: Path, overwrite: bool = False
) -> dict[str, float]:
    """Train, restate the normalisation's statistics, validate once and export; returns the validation metrics.

    A run interrupted and started again with the same folder goes on from its last checkpoint, and ends as if it had
    never been interrupted. A bundle that another run has made is not replaced unless that is asked for.
    """
    check_card_text(config, command)
    check_writable(bundle_folder / WEIGHTS)
    trainer = _trainer(config, run_folder)
    check_shared(config.fit, trainer.world_size)
    # The first process sees to the folders for all.
    alone = alone_in(run_folder) if trainer.is_global_zero else nullcontext()
    with alone, stops_told(trainer), ending_together(trainer):
        if trainer.is_global_zero:
            if not overwrite:
                check_is_own(bundle_folder, run_folder)
            check_settings(run_folder, config)
        shelf = Shelf(run_folder / EXAMPLES / settings_digest(config), trainer.global_rank, trainer.world_size)
        run = _Run.of(config, shelf)
        if trainer.is_global_zero:
            claim(run_folder, config, command, roster_of(run.cases))
            note_session(run_folder, trainer.precision)
            if run.cases.training:
                print(run.cases)
        training = training_loader(run.samples, config, trainer.global_rank, trainer.world_size)
        if begun := newest_checkpoint(run_folder):
            # Lightning tells the epoch only after processes that prepare samples have begun with the first ones.
            training.sampler.set_epoch(finished_epochs(begun))  # type: ignore[attr-defined]
            if trainer.is_global_zero:
                print(f"going on from {begun}")
        elif config.start:
            check_unseen(config.start, [case.name for case in run.cases.validation])
            by_chance = begin_with(run.module.network, config.start)
            if trainer.is_global_zero:
                print(f"begun with {config.start}" + (f", but for {', '.join(by_chance)}" if by_chance else ""))
        trainer.fit(run.module, training, run.validation(trainer), ckpt_path=begun)
        metrics = _export(run, run_folder, bundle_folder)
        trainer.strategy.barrier()  # on another machine a process could not read on what is gone
        if trainer.is_global_zero:
            shutil.rmtree(run_folder / EXAMPLES, ignore_errors=True)  # some systems keep what is mapped into memory
        return metrics


def export_run(
    run_folder: Path, bundle_folder: Path, overwrite: bool = False, overrides: Sequence[str] = ()
) -> dict[str, float]:
    """What `fit` does at its end, for the last checkpoint of a run, finished or not, on one device. Overrides may say
    where the data are now, on which statistics and figures are computed; the run stays what it is."""
    config = recorded_config(run_folder, ["compute={devices: 1}", *overrides])
    check_card_text(config, recorded_command(run_folder))
    check_settings(run_folder, config)
    check_writable(bundle_folder / WEIGHTS)
    if not overwrite:
        check_is_own(bundle_folder, run_folder)
    # Not on the shelf of the run, which may be going on.
    with tempfile.TemporaryDirectory(dir=run_folder, ignore_cleanup_errors=True) as folder:
        run = _Run.of(config, Shelf(Path(folder)))
        check_roster(run_folder, roster_of(run.cases))
        return _export(run, run_folder, bundle_folder)


@dataclass(frozen=True, eq=False)
class _Run:
    """What a configuration amounts to in memory."""

    config: Config
    module: NetworkTask
    samples: Samples
    validation: Callable[[L.Trainer], DataLoader | None]
    """None if no case was held out."""
    metrics: Mapping[str, str]
    """The names of the bundle's figures, each with the name by which the module logs it."""
    cases: Chosen[Any]
    """What the samples and the validation are of, if not of phantoms."""

    @staticmethod
    def of(config: Config, shelf: Shelf) -> _Run:
        L.seed_everything(config.fit.seed, verbose=False)
        card = read_card_text(config.card)
        if kind_of(card) == "classification":
            return _classification(config, card)
        return _segmentation(config, card, shelf)


def _segmentation(config: Config, card: Mapping[str, Any], shelf: Shelf) -> _Run:
    task = Task.from_card(card)
    network = _built(partial(build_network, config.network.name), config, card)
    training, held_out, cases = examples(config, task, shelf)
    samples = Samples(training, Augmenter(task, config.fit.crop, config.augmentation), config.fit.seed)

    def validation(trainer: L.Trainer) -> DataLoader | None:
        if not held_out:
            return None
        return validation_loader(held_out, len(task.labels) + 1, trainer.global_rank, trainer.world_size)

    per_class = {f"dice.{label.name}": f"val_dice_{label.value}" for label in task.labels}
    metrics = {"dice": "val_dice", **per_class}
    return _Run(config, SegmentationTask(network, config.fit), samples, validation, metrics, cases)


def _classification(config: Config, card: Mapping[str, Any]) -> _Run:
    task = PictureTask.from_card(card)
    network = _built(CLASSIFIERS[config.network.name], config, card)
    training, held_out, cases = picture_examples(config, task)
    samples = Samples(training, PictureAugmenter(config.augmentation), config.fit.seed)
    module = ClassificationTask(network, config.fit, task.classes)
    names = {name: f"val_{name}" for name in figure_names(task.classes)}
    return _Run(config, module, samples, lambda trainer: picture_loader(held_out), names, cases)


def _built(builder: Callable[[Mapping[str, Any]], T], config: Config, card: Mapping[str, Any]) -> T:
    try:
        return builder(network_arguments(config, card))
    except (TypeError, ValueError) as error:  # an argument that the network does not have, or a value it cannot take
        raise BadConfig(f"no network can be built of the settings under network: {error}") from error


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
            StepsTold(),
        ],
        plugins=[TwoCheckpoints()],
        logger=[CSVLogger(folder, name="csv"), TensorBoardLogger(folder, name="tensorboard")],
        gradient_clip_val=config.fit.gradient_clip,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=max(1, config.fit.validate_every // config.fit.checkpoint_every),
        log_every_n_steps=10,
    )


def _export(run: _Run, run_folder: Path, bundle_folder: Path) -> dict[str, float]:
    """Make a bundle of the last checkpoint, measured once and with the precision that it will be used with."""
    checkpoint = newest_checkpoint(run_folder)
    if not checkpoint:
        raise SegmentationError(f"{run_folder} has no checkpoint yet; wait until the run has written one.")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    run.module.load_state_dict(state["state_dict"])
    trainer = trainer_on(replace(run.config.compute, precision="32-true"), logger=False, enable_checkpointing=False)
    # Not in the shorter TF32, which GPUs take by default for convolutions: the bundle will not be run so.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
        _restate(run, trainer.strategy.root_device)
        metrics = _validated(run, trainer)
    if trainer.is_global_zero:
        command = recorded_command(run_folder)
        if state["global_step"] < run.config.fit.steps:
            command += f"  # exported after step {state['global_step']}"
        note_as_own(weights_of(run.module.network), run_folder)
        start = recorded_start(run_folder)
        held_out = [case.name for case in run.cases.validation]
        before = start.pop("trained_on", []) if start else []
        trained_on = {*before, *(case.name for case in run.cases.training)}
        sessions = recorded_sessions(run_folder)
        export_bundle(
            *(run.module.network, run.config, command, metrics, bundle_folder),
            *(held_out, start, trained_on, sessions),
        )
    return metrics


def _validated(run: _Run, trainer: L.Trainer) -> dict[str, float]:
    """The figures of the cases that were held out; none if none was."""
    loader = run.validation(trainer)
    if loader is None:
        return {}
    (measured,) = trainer.validate(run.module, loader, verbose=False)
    return {name: round(measured[logged], 4) for name, logged in run.metrics.items()}


def _restate(run: _Run, device: torch.device) -> None:
    """Take the statistics of the normalisation anew, on samples that were not trained on, alike in every process."""
    fit = run.config.fit
    torch.manual_seed(random_seed(fit.seed, 4))
    first = fit.steps * fit.batch
    starts = (first + batch * fit.batch for batch in range(STATISTICS_BATCHES))
    batches = (
        torch.stack([run.samples[number]["image"] for number in range(start, start + fit.batch)]).to(device)
        for start in starts
    )
    restate_statistics(run.module.network.to(device), batches)
