"""What a run trains and validates on, as PyTorch wants it: the order of the samples, and the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from .augmentation import Sample
from .cases import TRAIN, VALIDATION, LabelledCase, find_cases
from .checks import check_cases
from .config import BadConfig, Config, FitConfig, PhantomData
from .preparation import Example, Task, phantom_examples, read_example
from .shelf import Shelf
from .splits import Chosen, chosen_of, with_splits

T = TypeVar("T")
"""An example, as the augmenter takes it."""


def examples(config: Config, task: Task, shelf: Shelf) -> tuple[list[Example], list[Example], Chosen[LabelledCase]]:
    """The examples to train on and to validate on, and the cases that they are of. Those of cases are kept on a shelf;
    phantoms are few and small."""
    data = config.data
    if isinstance(data, PhantomData):
        return (
            phantom_examples(data.train, data.first_train_seed, data, task),
            phantom_examples(data.validation, data.first_validation_seed, data, task),
            Chosen(),
        )
    if data.folder is None:
        raise BadConfig("name the folder of the cases: data.folder=FOLDER")
    problems: list[str] = []
    found = find_cases(data.folder, task.inputs, data.splits, problems)
    cases = with_splits(found, data.validation, data.test)
    validates = data.validation or any(case.split == VALIDATION for case in cases)
    splits = (TRAIN, VALIDATION) if validates else (TRAIN,)
    check = partial(check_cases, cases, data, task, splits, problems)
    if problems:
        check()
    shelf.checked(cases, check)
    chosen = chosen_of(cases, data, config.fit.seed)
    read = shelf.examples([*chosen.training, *chosen.validation], lambda case: read_example(case, data, task))
    return read[: len(chosen.training)], read[len(chosen.training) :], chosen


class Samples(Dataset[Sample], Generic[T]):
    """Numbered samples: every example once in each round, in an order of its own."""

    def __init__(self, of: Sequence[T], augmenter: Callable[[T, np.random.Generator], Sample], seed: int) -> None:
        self.examples = of
        self.augmenter = augmenter
        self.seed = seed

    def __getitem__(self, number: int) -> Sample:
        turn, place = divmod(number, len(self.examples))
        order = np.random.default_rng((self.seed, 0, turn)).permutation(len(self.examples))
        return self.augmenter(self.examples[order[place]], np.random.default_rng((self.seed, 1, number)))


def check_shared(fit: FitConfig, processes: int) -> None:
    """Refuse a batch of which processes cannot have equal shares."""
    if fit.batch % processes:
        raise BadConfig(
            f"a batch of {fit.batch} cannot be shared by {processes} processes: set fit.batch to a multiple of "
            f"{processes}, or compute.devices so that fewer processes share it (compute.devices=1 for a single one)"
        )


class Numbers(Sampler[int]):
    """The numbers of the samples of an epoch, and of them those of one process of several.

    An epoch is what lies between two checkpoints. A run that goes on after one is told which epoch it is, so that it
    sees what it would have seen.
    """

    def __init__(self, fit: FitConfig, rank: int = 0, processes: int = 1) -> None:
        self.fit = fit
        self.rank = rank
        self.processes = processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.fit.checkpoint_every * self.fit.batch // self.processes

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.fit.checkpoint_every * self.fit.batch
        return iter(range(first + self.rank, first + self.fit.checkpoint_every * self.fit.batch, self.processes))


def training_loader(samples: Samples, config: Config, rank: int = 0, processes: int = 1) -> DataLoader[Sample]:
    """Batches of samples, an epoch at a time; of each batch the share of one process."""
    workers = config.compute.workers
    return DataLoader(
        samples,
        config.fit.batch // processes,
        sampler=Numbers(config.fit, rank, processes),
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def validation_loader(of: Sequence[Example], classes: int, rank: int = 0, processes: int = 1) -> DataLoader[Sample]:
    """Whole images, the share of one process."""
    # A process without images would not come to where figures are added up; where all see all, the mean is the same.
    share = of[rank::processes] if len(of) >= processes else of
    return DataLoader(WholeExamples(share, classes))


class WholeExamples(Dataset[Sample]):
    """Whole images as they are."""

    def __init__(self, of: Sequence[Example], classes: int) -> None:
        self.examples = of
        self.classes = classes

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int) -> Sample:
        example = self.examples[number]
        unlabelled = torch.zeros(self.classes, dtype=torch.bool)
        unlabelled[list(example.unlabelled)] = True
        return {"image": example.image, "label": example.label, "unlabelled": unlabelled}
