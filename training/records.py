"""Records of runs: what was asked, where it was computed, and how well every case was found. Small enough to commit."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ScaleEquivSegLib.errors import SegmentationError
from ScaleEquivSegLib.whole_files import write_text

from .evaluate import Row
from .evaluate_pictures import Answer

RECORDS = Path(__file__).parent / "records"


class BadRecords(SegmentationError):
    """Records that are missing, of another form, or not to be compared."""


@dataclass(frozen=True)
class Session:
    """Where something was computed; without seconds it did not come to its end."""

    revision: str
    changed: bool
    """Whether the sources differed from that revision."""
    torch: str
    platform: str
    seconds: float | None = None


@dataclass(frozen=True)
class Record:
    """One run. `rows` are the figures of the cases at one scale and of one class, in the order of `cases`.

    Of a classification a row has for a class its probability in each case, and whether the case is of that class.
    """

    experiment: str
    variant: str
    reference: str
    size: int
    seed: int
    training_cases: int
    parameters: int
    overrides: list[str]
    test: dict[str, Any]
    config: dict[str, Any]
    trained: list[dict[str, Any]]
    measured: dict[str, Any]
    means: dict[str, float]
    cases: list[str]
    rows: list[dict[str, Any]]
    cases_sha256: str = ""
    """The hash of all cases that were trained, validated and tested on; empty if nobody has noted it."""

    @property
    def network(self) -> str:
        name: str = self.config["network"]["name"]
        return name

    @property
    def is_classification(self) -> bool:
        return "probability" in self.rows[0]

    @property
    def main_metric(self) -> str:
        """The one figure that says most."""
        return "auc.mean" if self.is_classification else "dice.mean"

    @property
    def training_seconds(self) -> float | None:
        """Nothing if a session was killed: nobody has counted it."""
        seconds = [session["seconds"] for session in self.trained]
        return None if None in seconds else sum(seconds)

    @property
    def main_scale(self) -> float:
        """Of the scales of the test the one nearest to the cases as they are."""
        return min(self.test["scales"], key=lambda scale: abs(math.log(scale)))

    def mean(self, metric: str, scale: float) -> float:
        """`dice.mean`, `hd95.LABEL`, `auc.CLASS`, ... at a scale; NaN for a class that no case was measured for."""
        return self.means.get(f"{metric}@{scale:g}", math.nan)

    def dice(self, scale: float) -> np.ndarray:
        """Of each class in each case (class, case); NaN where the class counts in no mean."""
        return np.array([row["dice"] for row in self.rows if row["scale"] == scale], float)


def session() -> Session:
    """Here and now."""
    root = Path(__file__).parents[1]
    cores = f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores"
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    # Records of other runs are no change of what is run.
    changes = _git(root, "status", "--porcelain", "--", ".", f":(exclude){RECORDS.relative_to(root).as_posix()}")
    return Session(_git(root, "rev-parse", "HEAD") or "unknown", bool(changes), torch.__version__, cores + gpu)


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, encoding="utf-8", check=False)
    except FileNotFoundError:  # no git here
        return ""
    return done.stdout.strip()


def arranged(measured: Sequence[Row]) -> tuple[list[str], list[dict[str, Any]]]:
    """The cases, and their figures as a record has them."""
    found = {(row.scale, row.label, row.case): row for row in measured}
    cases = list(dict.fromkeys(row.case for row in measured))
    rows = []
    for scale, label in dict.fromkeys((row.scale, row.label) for row in measured):
        of_cases = [found.get((scale, label, case)) for case in cases]
        figures = {metric: [_rounded(row, metric) for row in of_cases] for metric in ("dice", "hd95")}
        rows.append({"scale": scale, "label": label, **figures})
    return cases, rows


def arranged_answers(answers: Sequence[Answer]) -> tuple[list[str], list[dict[str, Any]]]:
    """The cases, and what was said of them as a record has it."""
    rows = []
    for name in answers[0].probabilities:
        probability = [round(answer.probabilities[name], 4) for answer in answers]
        rows.append({"label": name, "probability": probability, "true": [answer.wanted == name for answer in answers]})
    return [answer.case for answer in answers], rows


def _rounded(row: Row | None, metric: str) -> float | None:
    """Nothing for a class that counts in no mean of a case."""
    value = getattr(row, metric, math.nan)
    return None if math.isnan(value) else round(value, 4)


def write_record(record: Record, path: Path) -> None:
    """Write a record, a line for each entry and each row."""
    entries = asdict(record)
    rows = ",\n  ".join(json.dumps(row) for row in entries.pop("rows"))
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items()]
    write_text("{\n" + ",\n".join([*lines, f'"rows": [\n  {rows}\n]']) + "\n}\n", path)


def read_record(path: Path) -> Record:
    """Read a record; one of another form is refused."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRecords(f"{path} cannot be read as a record ({error}); remove it, or write it anew") from error
    known = {field.name for field in fields(Record)}
    if not isinstance(entries, dict) or {*entries, "cases_sha256"} != known:
        raise BadRecords(f"{path} is no record of a run in the present form")
    return Record(**entries)


def read_records(folder: Path) -> list[Record]:
    """All records below a folder, in the order of their paths."""
    return _sorted(read_record(path) for path in folder.rglob("*.json"))


def _sorted(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.experiment, record.variant, record.size, record.seed))
