"""Labelled pictures on disk: which there are, of which class and group, and which of them are for training.
Pictures of one group show nearly the same, and are never split."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ScaleEquivSegLib.errors import SegmentationError
from ScaleEquivSegLib.volume import Geometry, Volume, read_slice

from .cases import LIST, BadData, read_rows
from .config import BadConfig, CaseData
from .splits import Chosen, chosen_of

COLUMNS = ("case", "file", "class")
ARRAYS = ("images", "labels", "names", "class_names")


@dataclass(frozen=True, eq=False)
class LabelledPicture:
    """A picture of one slice and the name of its class; `split` is empty where the data name none."""

    name: str
    volume: Volume
    of_class: str
    split: str = ""
    group: str = ""
    """A name that pictures of nearly the same share; a picture without one is alone."""

    @property
    def unit(self) -> str:
        return self.group or self.name

    @property
    def digest(self) -> str:
        pixels = self.volume.array
        digest = hashlib.sha256(repr((pixels.shape, pixels.dtype.str, self.of_class)).encode())
        digest.update(pixels.tobytes())
        return digest.hexdigest()


def find_pictures(source: Path, classes: Sequence[str]) -> list[LabelledPicture]:
    """The pictures of an archive, a folder or a table, checked.

    An archive (.npz) has the arrays images (n, rows, columns), labels (n), names (n), class_names and, if the data
    name them, split (n) and group (n). A table has the columns case, file, class and, if wanted, split and group; paths
    begin at its own folder. A folder holds one archive, or a table named cases.csv.
    """
    problems: list[str] = []
    try:
        archives = sorted(source.glob("*.npz")) if source.is_dir() else [source] if source.suffix == ".npz" else []
        if len(archives) == 1:
            found = _in_archive(archives[0])
        else:
            found = _in_table(source / LIST if source.is_dir() else source, problems)
    except OSError as error:
        reason = f"{error.filename} cannot be read: {error.strerror}; give an .npz file, or a table of pictures."
        raise BadData(source, [reason]) from error
    problems += _problems(found, classes)
    if problems:
        raise BadData(source, problems)
    return found


def chosen_pictures(data: CaseData, classes: Sequence[str], seed: int) -> Chosen[LabelledPicture]:
    """The pictures to train on and to validate on."""
    if data.folder is None:
        raise BadConfig("name the pictures: data.folder=FOLDER")
    unused = CaseData(data.folder, data.train, validation=data.validation)
    if data != unused:
        raise BadConfig("of the settings under data, pictures know folder, train and validation alone")
    chosen = chosen_of(find_pictures(data.folder, classes), data, seed)
    if not chosen.training or not chosen.validation or data.train > len(chosen.training):
        there = f"{len(chosen.training)} to train on and {len(chosen.validation)} to validate on"
        raise BadData(data.folder, [f"it has {there}; both are needed, and data.train asks for {data.train or 'all'}."])
    return chosen


# Layouts


def _in_archive(path: Path) -> list[LabelledPicture]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadData(path, [f"it is no archive of arrays ({error})."]) from error
    if missing := [key for key in ARRAYS if key not in arrays]:
        raise BadData(path, [f"it has no array {', '.join(missing)}."])
    images, known = arrays["images"], dict(enumerate(arrays["class_names"].astype(str).tolist()))
    nothing = np.full(len(images), "")
    labels, names, splits, groups = (arrays.get(key, nothing) for key in ("labels", "names", "split", "group"))
    if images.ndim != 3 or any(each.shape != (len(images),) for each in (labels, names, splits, groups)):
        raise BadData(path, ["its arrays must be as long as the number of images (n, rows, columns)."])
    return [
        LabelledPicture(str(name), _slice(image), known.get(label, str(label)), str(split), str(group))
        for name, image, label, split, group in zip(names, images, labels.tolist(), splits, groups, strict=True)
    ]


def _slice(pixels: np.ndarray) -> Volume:
    return Volume(pixels[None], Geometry((1, *pixels.shape), np.eye(4)))


def _in_table(path: Path, problems: list[str]) -> list[LabelledPicture]:
    """The pictures that can be read, with what is wrong with the others."""
    rows = read_rows(path)
    if not rows or (missing := [column for column in COLUMNS if column not in rows[0]]):
        raise BadData(path, [f"it has no column {', '.join(missing)}." if rows else "it has no rows."])
    found = []
    for row in rows:
        try:
            volume = read_slice(path.parent / row["file"])
        except SegmentationError as error:
            problems.append(f"case {row['case']}: {error}")
            continue
        found.append(LabelledPicture(row["case"], volume, row["class"], row.get("split", ""), row.get("group", "")))
    return found


def _problems(pictures: Sequence[LabelledPicture], classes: Sequence[str]) -> Iterator[str]:
    if not pictures:
        yield "it has no pictures."
    for picture in pictures:
        if picture.of_class not in classes:
            yield f"case {picture.name}: its class {picture.of_class!r} is not in the card ({', '.join(classes)})."
    for name, times in Counter(picture.name for picture in pictures).items():
        if times > 1:
            yield f"case {name}: it is there {times} times."
    yield from _split_problems(pictures)


def _split_problems(pictures: Sequence[LabelledPicture]) -> Iterator[str]:
    splits: dict[str, set[str]] = {}
    for picture in pictures:
        if picture.group:
            splits.setdefault(picture.group, set()).add(picture.split)
    for group, of_group in splits.items():
        if len(of_group) > 1:
            yield f"group {group}: its pictures are in the splits {' and '.join(sorted(of_group))}; keep them together."
    if any(picture.split for picture in pictures):
        yield from (f"case {p.name}: it has no split, and others have." for p in pictures if not p.split)
