"""Many cases segmented by several processes, each with its share, as `segment --cases` does in one."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from datetime import timedelta

import lightning as L
from torch.utils.data import DataLoader

from ScaleEquivSegLib.bundles import Bundle, bundle_named
from ScaleEquivSegLib.cases import Case, read_cases
from ScaleEquivSegLib.cli.segment_cases import segment_cases, tell
from ScaleEquivSegLib.cohort import Cohort, open_cohort
from ScaleEquivSegLib.segmentation import Model, Settings, load_model

from .config import ComputeConfig
from .processes import ending_together, trainer_on

PATIENCE = timedelta(days=1)
"""How long a process that is done waits for the others: one may have the largest cases."""


def predict(options: argparse.Namespace, compute: ComputeConfig) -> None:
    """Segment what is unfinished of a list of cases; the options are those of `segment --cases`.

    The first process keeps the folder to itself, finds what is finished in it, and writes the tables.
    """
    trainer = trainer_on(compute, PATIENCE, logger=False, enable_checkpointing=False)
    settings = Settings(device=str(trainer.strategy.root_device))

    def lead(
        options: argparse.Namespace, bundle: Bundle, cases: Sequence[Case], check: Callable[[], None]
    ) -> tuple[Cohort, int]:
        model = load_model(bundle)
        with (
            open_cohort(options.output, cases, bundle, settings, options.overwrite) as cohort,
            ending_together(trainer),
        ):
            skipped = len(cohort.finished)
            _segment_shares(trainer, cohort, model, check)
            cohort.write_tables()
        return cohort, skipped

    if trainer.is_global_zero:
        segment_cases(options, lead)
        return
    bundle = bundle_named(options.bundle)
    cases = read_cases(options.cases, bundle.inputs).cases
    _segment_shares(trainer, Cohort(options.output, cases, bundle, settings), load_model(bundle), lambda: None)


def _segment_shares(trainer: L.Trainer, cohort: Cohort, model: Model, check: Callable[[], None]) -> None:
    """Segment what the first process finds unfinished, and tell each process what came of all cases."""
    trainer.predict(_Share(cohort, model, check), return_predictions=False)
    for process in range(trainer.world_size):
        finished, failures = trainer.strategy.broadcast((cohort.finished, cohort.failures), src=process)
        cohort.finished |= finished
        cohort.failures |= failures


class _Share(L.LightningModule):
    """Segments the cases that fall to this process."""

    def __init__(self, cohort: Cohort, model: Model, check: Callable[[], None]) -> None:
        super().__init__()
        self.cohort = cohort
        self.model = model
        self.check = check
        self.allow_zero_length_dataloader_with_multiple_devices = True  # more processes than cases left

    def predict_dataloader(self) -> DataLoader[int]:
        """The numbers of the cases; of the unfinished ones, however many were finished before, each has as many."""
        unfinished = {case.name for case in self.cohort.unfinished}
        numbers = [number for number, case in enumerate(self.cohort.cases) if case.name in unfinished]
        of_all = self.trainer.strategy.broadcast(numbers)
        return DataLoader(of_all[self.global_rank :: self.trainer.world_size], batch_size=None)  # type: ignore[arg-type]

    def predict_step(self, number: int) -> None:
        case = self.cohort.cases[number]
        work = self.cohort.segment if self.trainer.is_global_zero else self.cohort.attempt
        tell(case.name, work(case, self.model, lambda phase, fraction: self.check()), bar_visible=False)
