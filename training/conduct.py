"""Carry out the runs of an experiment: train, measure, write the record. What is done is not done again.

Any number of processes may work through the same list side by side; a lock on each training keeps them apart.
"""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ScaleEquivSegLib.bundles import CARD, kind_of, read_bundle
from ScaleEquivSegLib.folder_lock import FolderInUse, alone_in
from ScaleEquivSegLib.whole_files import remove, write_text

from .cases import BadData, find_cases
from .checks import check_cases
from .config import BadConfig, CaseData, Config
from .evaluate import measured_rows, summary
from .evaluate_pictures import measured_pictures, summary_of
from .experiment import Run
from .export import read_card_text
from .fit import fit
from .picture_samples import PictureTask, prepared
from .pictures import find_pictures
from .preparation import Task
from .processes import Stopped
from .progress import duration
from .records import (
    BadRecords,
    Record,
    Session,
    arranged,
    arranged_answers,
    read_record,
    read_records,
    session,
    write_record,
)
from .roster import Roster, roster_of
from .run_folder import check_roster, deciding
from .splits import Chosen, Labelled, chosen_of, of_split

Say = Callable[[str], None]


@dataclass(frozen=True)
class Places:
    """Where the cases are, where records go, and where checkpoints and bundles lie."""

    data: Path
    records: Path
    runs: Path

    def training(self, run: Run) -> Path:
        """The folder of a training, which several runs may share."""
        return self.runs / "trained" / self.data.name / run.training()

    def failure(self, run: Run) -> Path:
        """Where it says why a run failed."""
        return failure_of(run, self.runs)


class OtherSettings(BadRecords):
    """A record of a run that was made with other settings than the run has now."""


def record_of(run: Run, records: Path) -> Path:
    """The file that says that a run is done, and its figures."""
    return records / run.experiment.name / f"{run.name}.json"


def failure_of(run: Run, runs: Path) -> Path:
    """The file that says why a run failed."""
    return runs / "failed" / run.experiment.name / f"{run.name}.txt"


def done(run: Run, records: Path) -> Record | None:
    """The record of a run, if it is done; a record made with other settings is an error."""
    path = record_of(run, records)
    if not path.exists():
        return None
    record = read_record(path)
    if (deciding(record.config), record.test) != (deciding(run.settings()), run.test()):
        raise OtherSettings(f"{path.name} was made with other settings than the experiment has now; remove it to go on")
    return record


def carry_out(runs: Sequence[Run], places: Places, say: Say) -> list[Run]:
    """Do what is left of a list; returns the runs that failed.

    What another process is at is left to it, and looked at again after the rest.
    """
    failed: list[Run] = []
    while True:
        in_use: list[Run] = []
        finished = 0
        for run in runs:
            if run in failed:
                continue
            try:
                finished += _carry_out(run, places, say)
            except FolderInUse:
                in_use.append(run)
            except (Stopped, BadData):  # the cases are those of all runs
                raise
            except Exception as error:
                write_text(traceback.format_exc(), places.failure(run))
                say(f"{run.name} failed: {error}")
                failed.append(run)
        if not in_use or not finished:
            for run in in_use:
                say(f"{run.name} is left to another process")
            return failed


def _carry_out(run: Run, places: Places, say: Say) -> bool:
    """Whether there was anything to do."""
    if _done_here(run, places):
        return False
    folder = places.training(run)
    with alone_in(folder):
        if _done_here(run, places):  # by another process, a moment ago
            return False
        say(f"{run.experiment.name}: {run.name}")
        record = _measured_before(run, places) or _made(run, places, folder)
        write_record(record, record_of(run, places.records))
        remove(places.failure(run))
    say(f"{run.name}: {_headline(record)}")
    return True


def _done_here(run: Run, places: Places) -> bool:
    """Whether a run is done, and on the cases that there are; a record of other cases is an error."""
    record = done(run, places.records)
    known = record.cases_sha256 if record else ""
    if known and known != _cases_sha256(run, _cases(run.config(places.data))):
        raise OtherSettings(
            f"{record_of(run, places.records)} was made with other cases than {places.data} has; name those again, or "
            "another folder of records with --out"
        )
    return record is not None


def _headline(record: Record) -> str:
    return f"{record.main_metric} {record.mean(record.main_metric, record.main_scale):.4f} at ×{record.main_scale:g}"


def _measured_before(run: Run, places: Places) -> Record | None:
    """The run as another record has it, be it of another experiment: of the same training, measured on the same cases
    at all scales of the run, and maybe at more."""
    settings, test = deciding(run.settings()), run.test()
    scales, cases_sha256 = test["scales"], _cases_sha256(run, _cases(run.config(places.data)))
    for record in read_records(places.records):
        is_tested_so = {**record.test, "scales": scales} == test and set(scales) <= set(record.test["scales"])
        is_of_these_cases = record.cases_sha256 in ("", cases_sha256)
        if is_tested_so and is_of_these_cases and deciding(record.config) == settings:
            at_scales = tuple(f"@{scale:g}" for scale in scales)
            return replace(
                record,
                experiment=run.experiment.name,
                variant=run.variant.name,
                reference=run.experiment.reference,
                overrides=run.overrides,
                test=test,
                means={key: value for key, value in record.means.items() if key.endswith(at_scales)},
                rows=[row for row in record.rows if row.get("scale", 1.0) in scales],
            )
    return None


def _made(run: Run, places: Places, folder: Path) -> Record:
    config = run.config(places.data)
    cases = _cases(config)
    if len(cases.training) < run.size:
        raise BadConfig(f"{places.data} has {len(cases.training)} cases to train on, not {run.size}")
    _check_tested(run, config, cases)
    digest = _cases_sha256(run, cases)
    trained = _trained(run, config, folder, roster_of(cases))
    here, started = session(), time.monotonic()
    bundle = folder / "bundle"
    measure = _measured_pictures if _is_classification(config) else _measured_cases
    names, figures, means = measure(run, config, bundle, places.data)
    return Record(
        experiment=run.experiment.name,
        variant=run.variant.name,
        reference=run.experiment.reference,
        size=run.size,
        seed=run.seed,
        training_cases=len(cases.training),
        parameters=read_bundle(bundle).card["parameters"],
        overrides=run.overrides,
        test=run.test(),
        config=run.settings(),
        trained=[asdict(each) for each in trained],
        measured=asdict(_ended(here, started)),
        means={key: round(value, 4) for key, value in means.items()},
        cases=names,
        rows=figures,
        cases_sha256=digest,
    )


Measured = tuple[list[str], list[dict[str, Any]], dict[str, float]]
"""Cases, rows and means of a record."""


def _measured_cases(run: Run, config: Config, bundle: Path, data: Path) -> Measured:
    test, variant = run.experiment, run.variant
    labelled = {"splits": _cases_of(config).splits, "native_voxels": variant.native_voxels}
    rows = measured_rows(bundle, data, test.split, test.scales, variant.scale_axis, labelled)
    return *arranged(rows), summary(rows)


def _measured_pictures(run: Run, config: Config, bundle: Path, data: Path) -> Measured:
    if run.experiment.scales != (1.0,) or run.variant.scale_axis or run.variant.native_voxels:
        raise BadConfig("pictures are measured as they are: an experiment on them has no scales")
    answers = measured_pictures(bundle, data, run.experiment.split)
    return *arranged_answers(answers), {f"{name}@1": value for name, value in summary_of(answers).items()}


def _is_classification(config: Config) -> bool:
    return kind_of(read_card_text(config.card)) == "classification"


def _cases(config: Config) -> Chosen[Any]:
    """The cases of a training."""
    data, card = _cases_of(config), read_card_text(config.card)
    assert data.folder is not None
    found: Sequence[Labelled]
    if _is_classification(config):
        found = find_pictures(data.folder, PictureTask.from_card(card).classes)
    else:
        found = find_cases(data.folder, Task.from_card(card).inputs, data.splits)
    return chosen_of(found, data, config.fit.seed)


def _check_tested(run: Run, config: Config, cases: Chosen[Any]) -> None:
    """Look at the cases of the test: `fit` checks its own, and these would be read only hours later."""
    data, card = _cases_of(config), read_card_text(config.card)
    assert data.folder is not None
    tested = of_split(cases.all(), run.experiment.split, data.folder)
    if _is_classification(config):
        prepared(tested, PictureTask.from_card(card), data.folder)
    else:
        check_cases(tested, replace(data, native_voxels=run.variant.native_voxels), Task.from_card(card))


def _cases_sha256(run: Run, cases: Chosen[Any]) -> str:
    """The hash of all cases that a run trains, validates and tests on."""
    tested = {case.name: case.digest for case in cases.all() if case.split == run.experiment.split}
    text = json.dumps([roster_of(cases), tested], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _cases_of(config: Config) -> CaseData:
    assert isinstance(config.data, CaseData)
    return config.data


def _trained(run: Run, config: Config, folder: Path, roster: Roster) -> list[Session]:
    """Train, or go on, unless it is done on these cases; returns all sessions that it took."""
    account = folder / "sessions.json"
    noted = json.loads(account.read_text(encoding="utf-8")) if account.exists() else []
    sessions = [Session(**entry) for entry in noted]
    if (folder / "bundle" / CARD).exists():
        check_roster(folder / "run", roster)
        return sessions
    here, started = session(), time.monotonic()
    _write_sessions([*sessions, here], account)
    fit(config, f"python -m training experiment {run.experiment.name}", folder / "run", folder / "bundle")
    sessions = [*sessions, _ended(here, started)]
    _write_sessions(sessions, account)
    return sessions


def _write_sessions(sessions: Sequence[Session], path: Path) -> None:
    write_text(json.dumps([asdict(each) for each in sessions], indent=1) + "\n", path)


def _ended(begun: Session, started: float) -> Session:
    return replace(begun, seconds=round(time.monotonic() - started, 1))


# What is done and what is left


def overview(runs: Sequence[Run], records: Path, folder: Path) -> Iterator[str]:
    """A line for each run, then how long the rest will take."""
    finished, outdated = {}, set()
    for run in runs:
        try:
            if record := done(run, records):
                finished[run] = record
        except OtherSettings:
            outdated.add(run)
    expected = _expected(runs, finished)
    for run in runs:
        if run in finished:
            yield f"done    {run.name}: {_headline(finished[run])}"
        elif run in outdated:
            yield f"other   {run.name}: its record was made with other settings"
        else:
            state = "failed" if failure_of(run, folder).exists() else "left"
            yield f"{state:7s} {run.name}: {_duration(expected[run])}"
    total = None if None in expected.values() else sum(filter(None, expected.values()))
    yield f"{len(finished)} of {len(runs)} done; the rest: {_duration(total)} for one process"


def _expected(runs: Sequence[Run], finished: dict[Run, Record]) -> dict[Run, float | None]:
    """Seconds of each run that is left: the mean of those of its variant, or else of all."""
    trained = {run.training() for run in finished}
    expected: dict[Run, float | None] = {}
    for run in runs:
        if run in finished:
            continue
        alike = [record for of, record in finished.items() if of.variant == run.variant] or list(finished.values())
        measuring = _mean([record.measured["seconds"] for record in alike])
        training = 0.0 if run.training() in trained else _mean([record.training_seconds for record in alike])
        expected[run] = None if measuring is None or training is None else measuring + training
        trained.add(run.training())
    return expected


def _mean(seconds: Sequence[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return sum(known) / len(known) if known else None


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "nobody knows how long"
    return duration(seconds)
