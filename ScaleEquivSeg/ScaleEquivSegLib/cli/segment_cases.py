"""`segment --cases`: many volumes into one folder, to be interrupted and taken up again at will."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundles import Bundle, bundle_named
from ..cases import SEGMENTATION_ENDING, Case, CaseList, read_cases, summary
from ..cohort import FAILURES, VOLUMES, Cohort, Failure, Finished, open_cohort
from ..errors import Cancelled, OutputExists, SomeCasesFailed
from ..requirements import check_computing
from .computing import settings_from
from .console import ProgressBar, check_outputs, say, stoppable, write_json

if TYPE_CHECKING:
    from ..segmentation import Model

Run = Callable[[argparse.Namespace, Bundle, Sequence[Case], Callable[[], None]], tuple[Cohort, int]]
"""Segments what is unfinished, and calls the last argument often, which raises `Cancelled` if it is to stop; returns
also how many cases were finished before."""


def segment_cases(options: argparse.Namespace, run: Run | None = None) -> None:
    """Segment what is unfinished of a list of cases, here or as `run` does it; the error at the end says how many
    failed."""
    started = time.monotonic()
    bundle = bundle_named(options.bundle)
    listed = read_cases(options.cases, bundle.inputs)
    _check_places(options, listed)
    if listed.ignored:
        print(f"note: ignored in {options.cases}: {summary(listed.ignored)}", file=sys.stderr)
    with stoppable() as check:
        cohort, skipped = (run or _run)(options, bundle, listed.cases, check)
    figures = {
        "bundle": bundle.name,
        "sha256": bundle.sha256,
        "cases": len(cohort.cases),
        "done": len(cohort.finished) - skipped,
        "skipped": skipped,
        "failed": len(cohort.failures),
        "seconds": time.monotonic() - started,
    }
    if options.json:
        write_json(figures, options.json)
    counts = f"{figures['done']} segmented, {skipped} already there, {figures['failed']} failed"
    say(f"{options.output}: {counts} ({bundle.name} {bundle.version})")
    if cohort.failures:
        raise SomeCasesFailed(
            f"{figures['failed']} of {figures['cases']} cases failed; {options.output / FAILURES} says why. "
            "The same command tries them again."
        )


def _run(
    options: argparse.Namespace, bundle: Bundle, cases: Sequence[Case], check: Callable[[], None]
) -> tuple[Cohort, int]:
    check_computing()
    # torch takes seconds to import, and wrong arguments are found without it.
    from ..devices import pick_device
    from ..segmentation import load_model

    settings, model = settings_from(options), load_model(bundle)
    pick_device(settings.device)  # before anything is replaced
    with open_cohort(options.output, cases, bundle, settings, options.overwrite) as cohort:
        skipped = len(cohort.finished)
        try:
            _segment_unfinished(cohort, model, check)
        except Cancelled:
            command = "the same command without --overwrite" if options.overwrite else "the same command"
            stopped = f"{len(cohort.finished)} of {len(cases)} cases are done; {command} goes on from there."
            raise Cancelled(stopped) from None
    return cohort, skipped


def _check_places(options: argparse.Namespace, listed: CaseList) -> None:
    """Refuse outputs among the images, or one in another's place; the report of an earlier run is replaced."""
    source, folder = options.cases, options.output
    if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise OutputExists(f"{folder} is in the folder of the images; give a folder outside {source}.")
    if folder.exists() and not folder.is_dir():
        raise OutputExists(f"{folder} is a file; with --cases give a folder.")
    labels = [folder / f"{case.name}{SEGMENTATION_ENDING}" for case in listed.cases]
    images = [image for case in listed.cases for image in case.images]
    outputs = [folder / VOLUMES, folder / FAILURES, *labels, options.json]
    check_outputs(outputs, overwrite=True, inputs=[source, *images])
    if options.json and not _is_report(options.json):
        check_outputs([options.json], options.overwrite)


def _is_report(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.keys() >= {"sha256", "cases", "skipped"}


def _segment_unfinished(cohort: Cohort, model: Model, check: Callable[[], None]) -> None:
    unfinished, count = cohort.unfinished, len(cohort.cases)
    for number, case in enumerate(unfinished, 1 + count - len(unfinished)):
        with closing(ProgressBar(f"[{number}/{count}] {case.name}  ", check)) as bar:
            outcome = cohort.segment(case, model, bar.update)
        tell(f"[{number}/{count}] {case.name}", outcome, bar.visible)


def tell(case: str, outcome: Finished | Failure, bar_visible: bool) -> None:
    """A line per case, but not below the bar on a terminal; failures always."""
    if isinstance(outcome, Failure):
        print(f"{case}: failed: {outcome.message}", file=sys.stderr)
    elif not (bar_visible and sys.stdout.isatty()):
        say(f"{case}: " + ", ".join(f"{name} {ml:.2f} ml" for name, ml in outcome.ml.items()))
    if isinstance(outcome, Finished) and outcome.warnings:
        print(f"{case}: warning: {outcome.warnings}", file=sys.stderr)
