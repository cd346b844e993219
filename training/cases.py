"""Labelled cases on disk: which images and labels belong together, and which are for training.

A folder is read by what lies in it; each layout is a function here. Whether the files are any good, `checks.py` says.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ScaleEquivSegLib.bundles import Channel
from ScaleEquivSegLib.cases import IMAGE_ENDINGS, Case, by_name, look_for_cases, stem
from ScaleEquivSegLib.errors import BadCaseList, SegmentationError

LABEL_ENDINGS = (*IMAGE_ENDINGS, ".seg.nrrd")
TRAIN, VALIDATION, TEST = "train", "val", "test"
BRATS_LABELS = ("_seg", "-seg")
LIST = "cases.csv"


@dataclass(frozen=True)
class LabelledCase:
    """An image for each channel and the labels drawn on them; `split` is empty where the data name none."""

    name: str
    images: tuple[Path, ...]
    """Empty if there are none."""
    labels: Path
    """Where they should be, if there are none."""
    split: str = ""
    frames: tuple[int, ...] = ()
    """Where the images are 4D files: the frame that each channel is."""

    @property
    def unit(self) -> str:
        return self.name

    @property
    def digest(self) -> str:
        files = [_sha256(path) for path in dict.fromkeys((*self.images, self.labels))]
        return hashlib.sha256(repr((files, self.frames)).encode()).hexdigest()


class BadData(BadCaseList):
    """Labelled cases that cannot be used; the message lists every reason."""

    def __init__(self, source: Path, problems: Sequence[str]) -> None:
        super().__init__("\n  ".join([f"{source} cannot be used as labelled cases:", *problems]))


@contextmanager
def told_of(case: str) -> Iterator[None]:
    """An error in here says of which case it is."""
    try:
        yield
    except SegmentationError as error:
        error.args = (f"case {case}: {error}",)
        raise


def find_cases(
    source: Path, channels: Sequence[Channel], listed: Path | None = None, problems: list[str] | None = None
) -> list[LabelledCase]:
    """The cases of a folder in any known layout, or of a table of paths.

    A table `listed`, or else the folder's own cases.csv, says by the columns `case` and `split` which of them to take.
    What some of them lack is an error, or added to `problems`, for `check_cases` to tell with all else.
    """
    lacking: list[str] = []
    try:
        cases = _in_layout(source, channels, lacking)
        if lacking and (problems is None or not cases):
            missing = ((c, path) for c in cases for path in (*c.images, c.labels) if not path.exists())
            raise BadData(source, lacking + [f"case {case.name}: {path} does not exist." for case, path in missing])
        if problems is not None:
            problems += lacking
        if listed is None and (source / LIST).is_file():
            listed = source / LIST
        return cases if listed is None else as_listed(cases, listed, source)
    except OSError as error:
        raise BadData(source, [f"{error.filename} cannot be read: {error.strerror}."]) from error


# Layouts


def _in_layout(source: Path, channels: Sequence[Channel], problems: list[str]) -> list[LabelledCase]:
    if source.is_file():
        return _table_of_paths(source, channels, problems)
    if (source / "dataset.json").is_file():
        return _decathlon(source, channels)
    if (source / "images").is_dir() and (source / "labels").is_dir():
        images, labels = source / "images", source / "labels"
        found = [LabelledCase(c.name, c.images, _labels(labels, c.name)) for c in _found(images, channels, problems)]
        return found + _without_images(_files_of_labels(labels), found)
    if holders := _folders_of_cases(source):
        found = [_brats_case(holder, case) for holder in holders for case in _found(holder, channels, problems)]
        return found + _without_images({path.parent.name: path for path in _brats_labels(source)}, found)
    raise BadData(
        source,
        [
            "there is neither dataset.json (Medical Segmentation Decathlon), nor images/ and labels/, nor a folder for "
            "each case with its labels in *_seg (BraTS); and it is no CSV of paths."
            if source.is_dir()
            else "it does not exist."
        ],
    )


def _found(source: Path, channels: Sequence[Channel], problems: list[str]) -> tuple[Case, ...]:
    """The cases, and what is wrong with them but for what `check_cases` will find when it reads their files."""
    found, wrong = look_for_cases(source, channels, files_too=False)
    problems += wrong
    return found.cases


def _table_of_paths(source: Path, channels: Sequence[Channel], problems: list[str]) -> list[LabelledCase]:
    """The columns of `read_cases`, `labels` and, if there is one, `split`; paths start at the table's folder.

    Rows without an image or without labels are told of and left out.
    """
    cases = _found(source, channels, problems)
    if not cases:
        return []
    rows = read_rows(source)
    if "labels" not in rows[0]:
        problems.append("it has no column 'labels'.")
        return []
    problems += [f"case {c.name}: it names no labels." for c, row in zip(cases, rows, strict=True) if not row["labels"]]
    return [
        LabelledCase(case.name, case.images, source.parent / row["labels"], row.get("split", ""))
        for case, row in zip(cases, rows, strict=True)
        if row["labels"] and source.parent not in case.images  # as which an empty cell is understood
    ]


def _decathlon(source: Path, channels: Sequence[Channel]) -> list[LabelledCase]:
    """dataset.json lists the pairs of files; of several channels each is a frame of a 4D file, in its own order."""
    try:
        description = json.loads((source / "dataset.json").read_text(encoding="utf-8-sig"))
        pairs = [(source / entry["image"], source / entry["label"]) for entry in description["training"]]
        modality = description["modality"]
        modalities = [str(modality[key]) for key in sorted(modality, key=int)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"dataset.json is none of the Decathlon ({type(error).__name__}: {error})."
        raise BadData(source, [reason]) from error
    frames = () if len(modalities) == len(channels) == 1 else _frames(source, modalities, channels)
    return [
        LabelledCase(stem(image), (image,) * len(channels), labels, frames=frames)
        for image, labels in pairs
        if not image.name.startswith("._")  # what macOS leaves in archives
    ]


def _frames(source: Path, modalities: Sequence[str], channels: Sequence[Channel]) -> tuple[int, ...]:
    """Which modality each channel is, by its name or the card's patterns."""
    candidates = by_name([Path(modality) for modality in modalities], channels)
    if unclear := [name for name, found in candidates.items() if len(found) != 1]:
        known = ", ".join(modalities)
        raise BadData(
            source,
            [
                f"which modality of dataset.json ({known}) is {name} is not clear: {len(candidates[name])} of them fit "
                "its name and patterns in the card; change the patterns."
                for name in unclear
            ],
        )
    return tuple(modalities.index(str(candidates[channel.name][0])) for channel in channels)


def _folders_of_cases(source: Path) -> list[Path]:
    """Folders whose sub-folders hold labels as BraTS names them: the source, or those directly inside it."""
    return sorted({path.parent.parent for path in _brats_labels(source)})


def _brats_labels(source: Path) -> list[Path]:
    paths = [path for pattern in ("*/*.nii*", "*/*/*.nii*") for path in source.glob(pattern)]
    return sorted(path for path in paths if stem(path).endswith(BRATS_LABELS))


def _brats_case(holder: Path, case: Case) -> LabelledCase:
    folder = holder / case.name
    found = sorted(path for path in folder.glob("*.nii*") if stem(path).endswith(BRATS_LABELS))
    return LabelledCase(case.name, case.images, found[0] if found else folder / f"{case.name}_seg.nii.gz")


# Files and tables


def _sha256(path: Path) -> str:
    try:
        status = path.stat()
        return _sha256_of(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise BadData(path, [f"it cannot be read: {error.strerror}."]) from error


@cache
def _sha256_of(path: Path, size: int, modified: int) -> str:
    """Read once for the many runs of an experiment; again if the file has changed."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _labels(folder: Path, name: str) -> Path:
    paths = [folder / f"{name}{ending}" for ending in LABEL_ENDINGS]
    return next((path for path in paths if path.exists()), folder / f"{name}.nrrd")


def _files_of_labels(folder: Path) -> dict[str, Path]:
    """The files of a folder that may be labels, by the names of their cases."""
    endings = sorted(LABEL_ENDINGS, key=len, reverse=True)  # .seg.nrrd is no .nrrd
    named = [(path, next((e for e in endings if path.name.endswith(e)), "")) for path in sorted(folder.iterdir())]
    return {path.name.removesuffix(end): path for path, end in named if end and not path.name.startswith(".")}


def _without_images(labels: Mapping[str, Path], found: Sequence[LabelledCase]) -> list[LabelledCase]:
    """Cases of which there are labels alone, for `check_cases` to tell of."""
    known = {case.name for case in found}
    return [LabelledCase(name, (), path) for name, path in labels.items() if name not in known]


def as_listed(cases: Sequence[LabelledCase], listed: Path, source: Path) -> list[LabelledCase]:
    """A case for every row of a table, whether the folder has it or not."""
    rows = read_rows(listed)
    if not rows or "case" not in rows[0]:
        raise BadData(listed, ["it has no column 'case', or no row."])
    found = {case.name: case for case in cases}
    missing = LabelledCase("", (), source)
    return [replace(found.get(row["case"], missing), name=row["case"], split=row.get("split", "")) for row in rows]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV that are not empty, by their headings in lower case."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(path, ["it is no UTF-8 text; save it as CSV in UTF-8."]) from error
    rows = csv.DictReader(io.StringIO(text), delimiter=";" if ";" in text.partition("\n")[0] else ",", restval="")
    # Cells beyond the heading have no key.
    cells = [
        {key.strip().casefold(): str(cell).strip() for key, cell in row.items() if key is not None} for row in rows
    ]
    return [row for row in cells if any(row.values())]
