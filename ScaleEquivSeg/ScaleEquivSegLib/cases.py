"""Which cases there are in a folder of images or in a table of paths, and which image is which channel of a case.
Everything that is wrong with a list is told at once."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from .bundles import Channel
from .errors import BadCaseList

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
SEGMENTATION_ENDING = ".seg.nrrd"
LONGEST_NAME = 255 - len(SEGMENTATION_ENDING)
"""In bytes: what common file systems take, with the ending of the result."""

DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}
"""No names of files on Windows, whatever their ending."""

NAMES_SHOWN = 5

Candidates = dict[str, list[Path]]
"""Per channel the images that may be it; there should be one."""


@dataclass(frozen=True)
class Case:
    """What a result is named after, and a file or DICOM folder for each channel, in the card's order."""

    name: str
    images: tuple[Path, ...]


@dataclass(frozen=True)
class CaseList:
    """The cases of a list, and what lies in its folder and belongs to none."""

    cases: tuple[Case, ...]
    ignored: tuple[str, ...] = ()


def read_cases(source: Path, channels: Sequence[Channel]) -> CaseList:
    """The cases of a folder or of a CSV file.

    In a folder, each image or sub-folder with a DICOM series is a case, if there is one channel. Of several channels
    each is an image `<case>_<channel>`, or lies in a sub-folder named after the case and is found there by the same
    ending or by the card's patterns. A CSV has the columns `case` and one per channel; paths start at its own folder.
    """
    found, problems = look_for_cases(source, channels)
    if problems:
        raise BadCaseList("\n  ".join([f"{source} cannot be used as a list of cases:", *problems]))
    return found


def look_for_cases(source: Path, channels: Sequence[Channel], files_too: bool = True) -> tuple[CaseList, list[str]]:
    """The cases as `read_cases` finds them, and all that is wrong with them: if anything is, some lack images.

    Who looks at all files and for equal names anyway may leave out what is wrong with the files that a table names.
    """
    problems: list[str] = []
    try:
        if source.is_dir():
            found = _in_folder(source, channels, problems)
        else:
            found = CaseList(_in_table(source, channels, problems, files_too))
    except OSError as error:
        raise BadCaseList(f"{source} cannot be read: {error.strerror}.") from error
    names = [case.name for case in found.cases]
    problems += _name_problems(names if files_too else list(dict.fromkeys(names)))
    if not found.cases and not problems:
        problems = [_nothing_found(found.ignored, channels)]
    return found, problems


def summary(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _nothing_found(ignored: Sequence[str], channels: Sequence[Channel]) -> str:
    wanted = "images" if len(channels) == 1 else f"images <case>_{channels[0].name} and so on, one per channel"
    there = f"none of these is: {summary(ignored)}" if ignored else "it is empty"
    return f"there is no case in it; looked for {wanted} ({', '.join(IMAGE_ENDINGS)}) or DICOM folders; {there}."


# Folders


def _in_folder(folder: Path, channels: Sequence[Channel], problems: list[str]) -> CaseList:
    found: dict[str, Candidates] = {}
    ignored = []
    for entry in _visible(folder):
        name, candidates = _case_of(entry, channels)
        if not any(candidates.values()):
            ignored.append(entry.name)
            continue
        case = found.setdefault(name, {})
        for channel, images in candidates.items():
            case.setdefault(channel, []).extend(images)
    return CaseList(tuple(_complete(name, case, channels, problems) for name, case in found.items()), tuple(ignored))


def _case_of(entry: Path, channels: Sequence[Channel]) -> tuple[str, Candidates]:
    """The case that a file or folder belongs to, and what it holds of it: nothing if it is no image."""
    if _is_image(entry):
        if len(channels) == 1:
            return stem(entry), {channels[0].name: [entry]}
        name, channel = _split(stem(entry), channels)
        return name, {channel: [entry]} if channel else {}
    if entry.is_dir():
        return entry.name, by_name([path for path in _visible(entry) if _is_image(path)], channels)
    return "", {}


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_image(path: Path) -> bool:
    """Whether a file is named as an image, or a folder holds DICOM files."""
    if path.is_dir():
        return any(_is_dicom(file) for file in _visible(path) if file.is_file())
    name = path.name.lower()
    return name.endswith(IMAGE_ENDINGS) and not name.endswith(SEGMENTATION_ENDING)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def stem(path: Path) -> str:
    ending = next((e for e in IMAGE_ENDINGS if path.name.lower().endswith(e) and not path.is_dir()), "")
    return path.name[: len(path.name) - len(ending)]


def _split(stem: str, channels: Sequence[Channel]) -> tuple[str, str]:
    """The case's and the channel's name in `<case>_<channel>`; the second is empty if it is none."""
    for name in sorted((channel.name for channel in channels), key=len, reverse=True):
        if stem.lower().endswith((f"_{name}".lower(), f"-{name}".lower())):
            return stem[: -len(name) - 1], name
    return stem, ""


def by_name(images: Sequence[Path], channels: Sequence[Channel]) -> Candidates:
    """Which images of one case may be which channel: by the ending of their names, the rest by the card's patterns."""
    candidates: Candidates = {channel.name: [] for channel in channels}
    rest: list[Path] = []
    for image in images:
        _, name = _split(f"_{stem(image)}", channels)
        candidates.get(name, rest).append(image)
    open_channels = [channel for channel in channels if not candidates[channel.name]]
    for channel in open_channels:
        patterns = [pattern.lower() for pattern in channel.patterns]
        candidates[channel.name] = [i for i in rest if any(fnmatchcase(stem(i).lower(), p) for p in patterns)]
    _take_what_is_certain(candidates)
    return candidates


def _take_what_is_certain(candidates: Candidates) -> None:
    """An image that is the only one for its channel is no other: *t1* also fits t1ce, which *t1ce* alone does not."""
    certain: set[str] = set()
    while new := {name for name, images in candidates.items() if len(images) == 1} - certain:
        certain |= new
        taken = {candidates[name][0] for name in certain}
        for name in candidates.keys() - certain:
            candidates[name] = [image for image in candidates[name] if image not in taken]


def _complete(name: str, case: Candidates, channels: Sequence[Channel], problems: list[str]) -> Case:
    for channel in channels:
        images = case.get(channel.name, [])
        if not images:
            problems.append(f"case {name}: no image for {channel.name}.")
        if len(images) > 1:
            problems.append(f"case {name}: several images for {channel.name}: {', '.join(i.name for i in images)}.")
    return Case(name, tuple(image for channel in channels for image in case.get(channel.name, [])[:1]))


# Tables


def _in_table(path: Path, channels: Sequence[Channel], problems: list[str], files_too: bool) -> tuple[Case, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        heading = text.partition("\n")[0]
        rows = csv.DictReader(io.StringIO(text), delimiter=";" if ";" in heading else ",", strict=True)
        columns = _columns(rows.fieldnames or [], channels, problems)
        if problems:
            return ()
        cases = []
        for row in rows:
            if any(cell and cell.strip() for cell in row.values() if not isinstance(cell, list)):
                where = f"line {rows.line_num}"
                cases.append(_case_in_row(row, columns, where, path.parent, problems))
                if files_too:
                    problems += _file_problems(cases[-1], where, path.parent)
        return tuple(cases)
    except UnicodeDecodeError:
        problems.append("it is no UTF-8 text; give a folder or a table saved as CSV in UTF-8.")
    except csv.Error as error:
        problems.append(f"it is no CSV: {error}.")
    return ()


def _columns(headings: Iterable[str], channels: Sequence[Channel], problems: list[str]) -> dict[str, str]:
    """The heading of the column `case`, and of each channel's."""
    headings = list(headings)
    columns = {}
    for wanted in ("case", *(channel.name for channel in channels)):
        names = {wanted.casefold()} | ({"image"} if wanted != "case" and len(channels) == 1 else set())
        found = [heading for heading in headings if heading.strip().casefold() in names]
        if len(found) == 1:
            columns[wanted] = found[0]
        else:
            name = " or ".join(repr(name) for name in sorted(names))
            how_many = f"{len(found)} columns" if found else "no column"
            problems.append(f"it has {how_many} {name}; its columns: {', '.join(headings) or 'none'}.")
    return columns


def _case_in_row(
    row: Mapping[str, str | None], columns: Mapping[str, str], where: str, folder: Path, problems: list[str]
) -> Case:
    cells = {wanted: (row[heading] or "").strip() for wanted, heading in columns.items()}
    name = cells.pop("case")
    if None in row:
        problems.append(f"{where}: more cells than the heading has; put paths with commas in quotation marks.")
    if not name:
        problems.append(f"{where}: no name of a case.")
    images = tuple(folder / cell for cell in cells.values())
    problems += [f"{where}: no image for {channel}." for channel, cell in cells.items() if not cell]
    return Case(name or where, images)


def _file_problems(case: Case, where: str, folder: Path) -> Iterator[str]:
    for number, image in enumerate(case.images):
        if not image.exists():
            yield f"{where}: {image} does not exist."
        elif image in case.images[:number] and image != folder:  # as which an empty cell is understood
            yield f"{where}: {image} is given twice."


# Names


def _name_problems(names: Sequence[str]) -> list[str]:
    problems = [f"case {name!r}: {complaint}." for name in names if (complaint := _complaint(name))]
    same: dict[str, list[str]] = {}
    for name in names:
        same.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    for clash in same.values():
        if len(set(clash)) > 1:
            problems.append(
                f"cases {', '.join(sorted(set(clash)))}: names must differ in more than upper and lower case."
            )
        elif len(clash) > 1:
            problems.append(f"case {clash[0]}: is there {len(clash)} times.")
    return problems


def _complaint(name: str) -> str:
    """Why a name is none for a file, on this or another operating system; nothing if it is one."""
    if not name:
        return "a name may not be empty"
    if not name.isprintable() or set(name) & set('<>:"/\\|?*'):
        return 'a name may not have any of < > : " / \\ | ? * or invisible characters'
    if name.startswith((".", " ")) or name.endswith((".", " ")):
        return "a name may not begin or end with a dot or a space"
    if name.partition(".")[0].upper() in DEVICES:
        return "Windows keeps this name for a device"
    if len(name.encode()) > LONGEST_NAME:
        return f"a name may not be longer than {LONGEST_NAME} bytes"
    return ""
