"""Many cases into one folder of results, which says by itself what is done: a killed run is taken up where it was.
One `<case>.seg.nrrd` each, `volumes.csv` of what they contain, and `failures.csv` if some failed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .bundles import Bundle
from .card import seal_of
from .cases import SEGMENTATION_ENDING, Case, summary
from .errors import (
    BadBundle,
    Cancelled,
    OutputExists,
    SegmentationError,
    UnavailableDevice,
    UnwritableOutput,
)
from .folder_lock import LOCK, alone_in
from .labelmap import read_labelmap
from .provenance import read_provenance
from .volume import read_image
from .whole_files import remove, write_csv

if TYPE_CHECKING:
    from .segmentation import Model, Progress, Settings

VOLUMES = "volumes.csv"
FAILURES = "failures.csv"
CONCERNS_ALL = (BadBundle, UnavailableDevice, OutputExists, UnwritableOutput, Cancelled)
"""Would stop every other case too."""


@dataclass(frozen=True)
class Finished:
    """What the file of a finished case contains."""

    ml: Mapping[str, float]
    warnings: str


@dataclass(frozen=True)
class Failure:
    """Why a case could not be segmented."""

    kind: str
    message: str


class Cohort:
    """Cases, and how far they are in a folder that is theirs while this lives; made by `open_cohort`."""

    def __init__(self, folder: Path, cases: Sequence[Case], bundle: Bundle, settings: Settings) -> None:
        self.folder = folder
        self.cases = cases
        self.finished: dict[str, Finished] = {}
        self.failures: dict[str, Failure] = {}
        self.others: dict[str, Finished] = {}
        self._bundle = bundle
        self._settings = settings

    @property
    def unfinished(self) -> list[Case]:
        """The cases that are still to be segmented, failed ones of earlier runs among them."""
        return [case for case in self.cases if case.name not in self.finished]

    def output(self, case: Case) -> Path:
        """Where the labels of a case are."""
        return self.folder / f"{case.name}{SEGMENTATION_ENDING}"

    def take_up(self) -> None:
        """Find what earlier runs have finished; files that this bundle and these settings did not make are an error."""
        foreign: dict[str, list[str]] = {}
        for case in self.cases:
            path = self.output(case)
            if not path.exists():
                continue
            try:
                complaint = self._not_ours(read_provenance(path))
                self.finished[case.name] = self._read(path)
            except SegmentationError:
                complaint = "damaged, or no segmentation"
            if complaint:
                foreign.setdefault(complaint, []).append(path.name)
        listed = {self.output(case) for case in self.cases}
        for path in sorted(set(self.folder.glob(f"*{SEGMENTATION_ENDING}")) - listed):
            with suppress(SegmentationError):
                if not self._not_ours(read_provenance(path)):
                    self.others[path.name.removesuffix(SEGMENTATION_ENDING)] = self._read(path)
        if foreign:
            lines = [f"{complaint}: {summary(names)}" for complaint, names in foreign.items()]
            raise OutputExists(
                "\n  ".join([f"{self.folder} has other results; give another folder or add --overwrite:", *lines])
            )

    def segment(self, case: Case, model: Model, progress: Progress) -> Finished | Failure:
        """Segment one case and write it down, also if it fails; errors that concern all cases are raised."""
        outcome = self.attempt(case, model, progress)
        self.write_tables()
        return outcome

    def attempt(self, case: Case, model: Model, progress: Progress) -> Finished | Failure:
        """The same without the tables, for a process that is not alone."""
        from .segmentation import segment, write_segmentation  # torch takes seconds to import

        try:
            progress("Reading", 0.0)
            channels = [read_image(path) for path in case.images]
            write_segmentation(segment(channels, model, self._settings, progress), self.output(case))
            self.finished[case.name] = self._read(self.output(case))
        except CONCERNS_ALL:
            raise
        except Exception as error:
            if not isinstance(error, SegmentationError | MemoryError):
                logging.getLogger(__name__).exception("case %s", case.name)
            self.failures[case.name] = Failure(type(error).__name__, str(error))
        return self.finished.get(case.name) or self.failures[case.name]

    def write_tables(self) -> None:
        """Bring the tables up to date: they say what the label files say, however many runs and lists it took."""
        done = [(case.name, self.finished[case.name]) for case in self.cases if case.name in self.finished]
        done += self.others.items()
        names = [label.name for label in self._bundle.labels]
        rows = [(name, *(f"{one.ml[label]:.6f}" for label in names), one.warnings) for name, one in done]
        write_csv([("case", *(f"ml.{label}" for label in names), "warnings"), *rows], self.folder / VOLUMES)
        failed = [(name, failure.kind, failure.message) for name, failure in self.failures.items()]
        if failed:
            write_csv([("case", "kind", "message"), *failed], self.folder / FAILURES)
        else:
            remove(self.folder / FAILURES)

    def _read(self, path: Path) -> Finished:
        volume = read_labelmap(path).volume
        voxels = {label.name: int((volume.array == label.value).sum()) for label in self._bundle.labels}
        ml = {name: count * volume.geometry.voxel_ml for name, count in voxels.items()}
        return Finished(ml, read_provenance(path).get("warnings", ""))

    def _not_ours(self, found: Mapping[str, str]) -> str:
        """The first thing in which a provenance differs from that of this bundle and these settings, if any."""
        if "roi" in found:
            return "segmented in a region of interest only"
        card = seal_of(self._bundle.card)
        wanted = {"weights_sha256": self._bundle.sha256, "card_sha256": card, **self._settings.provenance()}
        for key, value in wanted.items():
            if found.get(key) != value:
                return f"{key} is {found.get(key, 'unknown'):.12s}, here {value:.12s}"
        return ""


@contextmanager
def open_cohort(
    folder: Path, cases: Sequence[Case], bundle: Bundle, settings: Settings, overwrite: bool = False
) -> Iterator[Cohort]:
    """Cases with what a folder has of them already, or with nothing if that is to be replaced: it is removed first.

    So whatever interrupts the run, no result is there that it was meant to replace.
    """
    for table in (folder / VOLUMES, folder / FAILURES):
        if table.exists() and not (folder / LOCK).exists() and not overwrite:
            raise OutputExists(f"{table} exists and is of no such run; give another folder or add --overwrite.")
    with alone_in(folder):
        cohort = Cohort(folder, cases, bundle, settings)
        if overwrite:
            for case in cases:
                remove(cohort.output(case))
        cohort.take_up()
        cohort.write_tables()
        yield cohort
